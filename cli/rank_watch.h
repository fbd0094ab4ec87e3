// Looks after the ranks of a worker while it starts, when nothing else does.
#pragma once

#include <functional>
#include <thread>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

namespace baton {

// As long as this lives: rank 0 may be waiting, for ever, for what a rank that has ended owes a
// device. Whoever waits where he can tell of it is given `patience`; then `give_up` is called with
// what `check_alive` has said. Both on a thread of its own.
class RankWatch {
 public:
  using CheckFn = std::function<absl::Status()>;
  using GiveUpFn = std::function<void(const absl::Status&)>;
  RankWatch(CheckFn check_alive, absl::Duration patience, GiveUpFn give_up);
  ~RankWatch();

 private:
  void Run(const CheckFn& check_alive, absl::Duration patience, const GiveUpFn& give_up);

  absl::Notification over_;
  std::thread thread_;
};

}  // namespace baton
