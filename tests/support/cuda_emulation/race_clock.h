// What happens before what in a running kernel, as far as its barriers say.
//
// A time is a number that rises with every launch, block and barrier; what a thread does has the
// time of the last of them that the thread met. Time 0: never.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "tests/support/cuda_emulation/block.h"

namespace baton::cuda_emulation {

using RaceTime = uint32_t;

// Not thread-safe.
class RaceClock {
 public:
  RaceClock();

  // `overlaps`: with the one before, which may overlap with others before it.
  void StartLaunch(bool overlaps);
  void StartBlock();
  void MeetAll();
  void MeetLanes(int first_thread, uint32_t lanes);

  RaceTime launch_start() const { return launch_start_; }
  // Of the last launch that did not overlap with those before it.
  RaceTime overlap_start() const { return overlap_start_; }
  RaceTime block_start() const { return block_start_; }
  // Of what `thread` does now.
  RaceTime Of(int thread) const {
    return std::max(barrier_, warp_barriers_[static_cast<size_t>(thread)]);
  }
  // Whether what `thread` of this block did at `time` happened before what `now` does.
  bool Before(RaceTime time, int thread, int now) const {
    if (thread == now || BeforeLastBarrier(time)) return true;
    if (thread / kLanes != now / kLanes) return false;
    return time <= seen_[static_cast<size_t>(now)][static_cast<size_t>(thread % kLanes)];
  }
  // The same of any thread of another warp.
  bool BeforeLastBarrier(RaceTime time) const { return time < barrier_; }

  static constexpr int kMaxThreads = 1024;

 private:
  // By lane of a warp: what it did up to these times happened before.
  using Seen = std::array<RaceTime, kLanes>;

  RaceTime Next();

  RaceTime now_ = 0;
  RaceTime launch_start_ = 0;
  RaceTime overlap_start_ = 0;
  RaceTime block_start_ = 0;
  RaceTime barrier_ = 0;                 // the last one of the whole block, or its start
  std::vector<RaceTime> warp_barriers_;  // [kMaxThreads]: the last one of a thread
  std::vector<Seen> seen_;               // [kMaxThreads]
};

}  // namespace baton::cuda_emulation
