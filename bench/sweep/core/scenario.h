// Traffic that arms are compared under, and the presets. Pure.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/load/core/slo.h"
#include "bench/load/core/workload.h"

namespace baton::sweep {

struct Scenario {
  std::string name;
  std::string lengths;       // as of --lengths
  std::string trace;         // file name below the folder of traces; empty: none
  double length_scale = 1;   // of lengths and of a trace's blocks
  double ttft_multiple = 3;  // of the uncontended latency: the objectives, unless `slo` is given
  double tpot_multiple = 1.5;
  load::Slo slo;  // finite: given
};

// How much to measure.
struct Effort {
  absl::Duration point = absl::Seconds(60);  // of arrivals at one rate, within the bounds below
  int64_t least_requests = 24;
  int64_t most_requests = 3000;
  int64_t uncontended_requests = 24;
  int32_t seeds = 1;       // runs at each of the two rates around the crossing
  double tolerance = 0.1;  // see SearchOptions
  bool find_99 = true;     // also the goodput at 99 %
  bool scale_curve = true;
  absl::Duration time_limit = absl::InfiniteDuration();  // of one scenario; ends searches early
};

struct Preset {
  std::string name;
  std::string summary;
  std::vector<Scenario> scenarios;
  std::vector<std::string> chunks;  // candidates of the chunked arm
  Effort effort;
};

const std::vector<Preset>& Presets();
absl::StatusOr<Preset> FindPreset(const std::string& name);  // an error lists the names

// Poisson arrivals at `rate_per_s` with the scenario's lengths; overlong requests are clipped.
absl::StatusOr<load::WorkloadSpec> WorkloadOf(const Scenario& scenario, const load::Slo& slo,
                                              double rate_per_s);

}  // namespace baton::sweep
