// What a KvSender or KvReceiver tells a KvCopyWatch of the copies of its blocks.
#pragma once

#include "absl/status/status.h"
#include "common/clock.h"
#include "kvtransfer/block_access.h"
#include "kvtransfer/kv_copy_watch.h"

namespace baton {

// On the KV thread. `watch` may be null: then nobody is told.
class KvCopyReports {
 public:
  KvCopyReports(KvCopyWatch* watch, const Clock& clock) : watch_(watch), clock_(clock) {}

  // At the end of a round, which may have started copies. `ended`: what Progress has returned.
  void EndRound(const BlockAccess& blocks, bool ended) const { Observe(!blocks.idle(), ended); }
  // Settles; waiting is time under way, too.
  void Settle(BlockAccess& blocks) const {
    Observe(/*under_way=*/true, /*ended=*/false);
    blocks.Settle();
    Observe(/*under_way=*/false, /*ended=*/true);
  }
  void Failed(const absl::Status& status) const {
    if (watch_ != nullptr) watch_->Failed(status);
  }

 private:
  void Observe(bool under_way, bool ended) const {
    if (watch_ != nullptr) watch_->Observe(under_way, ended, clock_.Now());
  }

  KvCopyWatch* const watch_;
  const Clock& clock_;
};

}  // namespace baton
