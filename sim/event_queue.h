// What will happen in a simulated cluster, in order of time; what falls on one moment happens in
// the order in which it was asked for. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace baton::sim {

class EventQueue {
 public:
  using Run = std::function<void()>;

  absl::Time now() const { return now_; }
  bool empty() const { return events_.empty(); }

  // A time that has passed counts as now.
  void At(absl::Time at, Run run) {
    if (at == absl::InfiniteFuture()) return;
    events_.push({std::max(at, now_), next_number_++, std::move(run)});
  }
  void After(absl::Duration delay, Run run) { At(now_ + delay, std::move(run)); }

  // REQUIRES: !empty().
  void RunNext() {
    // The heap gives out constants; what is moved out of it is popped at once.
    Event event = std::move(const_cast<Event&>(events_.top()));
    events_.pop();
    now_ = event.at;
    event.run();
  }

 private:
  struct Event {
    absl::Time at;
    uint64_t number = 0;
    Run run;
    friend bool operator<(const Event& a, const Event& b) {  // the latest first, for the heap
      return a.at != b.at ? a.at > b.at : a.number > b.number;
    }
  };

  absl::Time now_ = absl::UnixEpoch();
  uint64_t next_number_ = 0;
  std::priority_queue<Event> events_;
};

}  // namespace baton::sim
