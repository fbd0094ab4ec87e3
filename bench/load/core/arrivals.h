// When requests are sent: fixed before the run starts, by a seed, whatever the server does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/load/core/random.h"

namespace baton::load {

enum class ArrivalKind {
  kPoisson,
  kGamma,     // independent gaps of coefficient of variation `cv`
  kConstant,  // equal gaps
  kRamp,      // Poisson whose rate goes in a line from `rate` to `ramp_to` over the run
  kBurst,  // Poisson in `burst_on`, silent in `burst_off`, in turns; mean rate over a turn `rate`
  kTrace,  // the times of a trace: MakeArrivals refuses it, see workload.h
};

struct ArrivalSpec {
  ArrivalKind kind = ArrivalKind::kPoisson;
  double rate_per_s = 1;
  double cv = 1;
  double ramp_to_per_s = 0;
  absl::Duration burst_on = absl::Seconds(1);
  absl::Duration burst_off = absl::Seconds(1);
};

// Where the run ends: after `max_requests` or at `duration`, whichever comes first.
struct RunLimit {
  int64_t max_requests = 0;                            // 0: no bound
  absl::Duration duration = absl::InfiniteDuration();  // of arrivals; answers may come later
};

// Ascending offsets from the start of the run. The limit must bound the run.
absl::StatusOr<std::vector<absl::Duration>> MakeArrivals(const ArrivalSpec& spec,
                                                         const RunLimit& limit, Rng rng);

// "poisson at 4.00/s", for reports.
std::string DescribeArrivals(const ArrivalSpec& spec);

}  // namespace baton::load
