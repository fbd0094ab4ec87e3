// What the owner of a device wants to know of the KV copies that run beside its steps: whether one
// has failed, and whether they still end.
#pragma once

#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace baton {

// Thread-safe. Outlives the KvSender or KvReceiver that it is given to.
class KvCopyWatch {
 public:
  // The KV thread, in each of its rounds, and before and after it waits for copies. `ended`: one
  // has since the last call.
  void Observe(bool under_way, bool ended, absl::Time now) {
    absl::MutexLock lock(&mutex_);
    if (!under_way) {
      since_.reset();
    } else if (ended || !since_.has_value()) {
      since_ = now;
    }
  }
  void Failed(const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    failure_.Update(status);
  }

  // For how long copies have been under way with none that has ended; 0: none is.
  absl::Duration Age(absl::Time now) const {
    absl::MutexLock lock(&mutex_);
    return since_.has_value() ? now - *since_ : absl::ZeroDuration();
  }
  // The first.
  absl::Status failure() const {
    absl::MutexLock lock(&mutex_);
    return failure_;
  }

 private:
  mutable absl::Mutex mutex_;
  std::optional<absl::Time> since_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace baton
