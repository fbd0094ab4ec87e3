// The whole comparison under one scenario: objectives from uncontended latencies, a search for each
// setup of each arm, repeats around the answers, and the SLO-scale curve. Pure but for the `Lab`
// that it measures in.
//
//   uncontended ──▶ search each setup ──▶ 99 % of the best ──▶ repeat with seeds ──▶ scale curve
//                   (one that fails at the arm's best rate so far is dropped)
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/load/core/record.h"
#include "bench/load/core/summary.h"
#include "bench/load/core/trace.h"
#include "bench/load/core/workload.h"
#include "bench/sweep/core/arm.h"
#include "bench/sweep/core/goodput_curve.h"
#include "bench/sweep/core/scenario.h"

namespace baton::sweep {

// A running setup. Stops when destroyed.
class Cluster {
 public:
  virtual ~Cluster() = default;
  virtual int32_t max_model_len() const = 0;  // tokens
  // Sends the plan and returns the records of requests that were sent. `go_on` is asked after each
  // request that ended; false aborts the rest.
  virtual absl::StatusOr<std::vector<load::RequestRecord>> Run(
      const load::LoadPlan& plan, const std::function<bool(const load::RequestRecord&)>& go_on) = 0;
};

class Lab {
 public:
  virtual ~Lab() = default;
  virtual absl::Time Now() = 0;
  // `slo` is what the router schedules for. `admission` off serves what is predicted to miss it.
  virtual absl::StatusOr<std::unique_ptr<Cluster>> Start(const Setup& setup, const load::Slo& slo,
                                                         bool admission) = 0;
};

struct Measured {
  Observation observation;
  load::Summary summary;   // under the scenario's objectives
  bool cut_short = false;  // ended early, when too many had missed for any level
};

struct SetupResult {
  std::string name;
  // 0: not measured.
  double uncontended_ttft_ms = 0;  // 90th percentile over the scenario's lengths
  double uncontended_ttft_mean_ms = 0;
  double uncontended_tpot_ms = 0;  // median
  std::vector<Measured> runs;
  bool dropped = false;      // fails where a setup before it still holds
  bool out_of_time = false;  // the bracket is wider than asked for
};

struct ArmResult {
  std::string name;
  std::vector<SetupResult> setups;
  size_t best = 0;  // index into setups
  Estimate goodput_90;
  std::optional<Estimate> goodput_99;  // unset: not looked for
  bool at_least = false;               // goodput_90 was not bounded from above
  std::vector<double> resamples_90;
  // Share of good requests with both objectives times each of kScales, all arms at one rate with
  // admission off; empty without a curve.
  std::vector<double> scale_shares;
  const SetupResult& chosen() const { return setups[best]; }
};

inline constexpr double kScales[] = {0.25, 0.35, 0.5, 0.7, 0.85, 1, 1.2, 1.5, 2, 3, 4, 6, 8};

struct ScenarioResult {
  Scenario scenario;
  load::Slo slo;
  std::vector<ArmResult> arms;
  double scale_rate_per_s = 0;  // of the curve
  double took_s = 0;

  const ArmResult& arm(const std::string& name) const;
  // Goodput at 90 % of the disaggregated arm over `name`'s.
  Estimate RatioOver(const std::string& name) const;
};

struct SweepInput {
  std::vector<Arm> arms;
  Effort effort;
  std::vector<load::TraceRow> trace;  // of the scenario, if it has one
  uint64_t seed = 1;
  std::function<void(const std::string&)> log;  // a line for the operator
};

absl::StatusOr<ScenarioResult> RunScenario(const Scenario& scenario, const SweepInput& input,
                                           Lab& lab);

}  // namespace baton::sweep
