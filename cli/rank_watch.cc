#include "cli/rank_watch.h"

#include <utility>

namespace baton {

RankWatch::RankWatch(CheckFn check_alive, absl::Duration patience, GiveUpFn give_up)
    : thread_([this, check_alive = std::move(check_alive), patience, give_up = std::move(give_up)] {
        Run(check_alive, patience, give_up);
      }) {}

RankWatch::~RankWatch() {
  over_.Notify();
  thread_.join();
}

void RankWatch::Run(const CheckFn& check_alive, absl::Duration patience, const GiveUpFn& give_up) {
  constexpr absl::Duration kPoll = absl::Milliseconds(100);
  absl::Status alive = absl::OkStatus();
  while (alive.ok()) {
    if (over_.WaitForNotificationWithTimeout(kPoll)) return;
    alive = check_alive();
  }
  if (!over_.WaitForNotificationWithTimeout(patience)) give_up(alive);
}

}  // namespace baton
