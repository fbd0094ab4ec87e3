#include "tests/support/cuda_emulation/race_clock.h"

#include <algorithm>

#include "common/check.h"

namespace baton::cuda_emulation {

RaceClock::RaceClock() : warp_barriers_(kMaxThreads), seen_(kMaxThreads) {}

RaceTime RaceClock::Next() {
  ++now_;
  BATON_CHECK(now_ != 0) << "more barriers than a time can count";
  return now_;
}

void RaceClock::StartLaunch(bool overlaps) {
  launch_start_ = Next();
  if (!overlaps) overlap_start_ = launch_start_;
}
void RaceClock::StartBlock() { block_start_ = barrier_ = Next(); }
void RaceClock::MeetAll() { barrier_ = Next(); }

void RaceClock::MeetLanes(int first_thread, uint32_t lanes) {
  const auto at = [&](int lane) { return static_cast<size_t>(first_thread + lane); };
  const RaceTime before = now_;
  const RaceTime time = Next();
  Seen all{};
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((lanes >> lane & 1u) == 0) continue;
    const Seen& seen = seen_[at(lane)];
    std::ranges::transform(all, seen, all.begin(),
                           [](RaceTime x, RaceTime y) { return std::max(x, y); });
    all[static_cast<size_t>(lane)] = before;
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((lanes >> lane & 1u) == 0) continue;
    seen_[at(lane)] = all;
    warp_barriers_[at(lane)] = time;
  }
}

}  // namespace baton::cuda_emulation
