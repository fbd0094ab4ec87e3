// The whole run, decided before it starts: who is sent when, how long, in which class.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/load/core/arrivals.h"
#include "bench/load/core/lengths.h"
#include "bench/load/core/slo.h"
#include "bench/load/core/trace.h"

namespace baton::load {

// What to do with a request whose prompt and output do not fit the model's context.
enum class Overlong { kFail, kDrop, kClip };

struct WorkloadSpec {
  ArrivalSpec arrivals;
  LengthSpec lengths;
  RunLimit limit;  // of measured requests; the warm-up comes before and on top of max_requests
  int64_t warmup_requests = 0;  // the first ones; sent like the others, not measured
  std::vector<SloClass> classes = {SloClass{}};
  double length_scale = 1;    // multiplies every length, and the size of a trace's blocks
  int32_t max_model_len = 0;  // 0: unknown, nothing is overlong
  Overlong overlong = Overlong::kFail;

  // Arrivals kTrace: divide the trace's times. At most one of the two differs from 0.
  double trace_speedup = 0;
  double trace_rate_per_s = 0;  // mean rate to rescale to
  int64_t trace_first_row = 0;
};

struct PlannedRequest {
  absl::Duration at;  // intended send time, from the start of the run
  int32_t prompt_tokens = 1;
  int32_t output_tokens = 1;
  int32_t slo_class = 0;  // index into LoadPlan::classes
  bool warmup = false;
  uint64_t content_seed = 0;       // of what is not in a shared block
  std::vector<int64_t> block_ids;  // shared prefix blocks of LoadPlan::block_tokens tokens
};

struct LoadPlan {
  std::vector<PlannedRequest> requests;  // ascending by `at`
  std::vector<SloClass> classes;
  uint64_t seed = 0;
  int32_t block_tokens = 0;  // 0: no shared prefixes
  int64_t dropped = 0;       // overlong
  int64_t clipped = 0;       // overlong
  double trace_speedup = 1;  // in effect
  double offered_per_s = 0;  // measured requests over the time in which they are sent
};

// Pure: the same spec, trace and seed give the same plan. `trace` is needed when arrivals or
// lengths are kTrace. With arrivals of another kind, lengths of a trace with blocks are its rows in
// order (so that sharing stays), those of a trace without are drawn with replacement.
absl::StatusOr<LoadPlan> BuildPlan(const WorkloadSpec& spec, const std::vector<TraceRow>& trace,
                                   uint64_t seed);

// Requests from `warmup` on, and the mean rate at which a plan offers them.
double OfferedRate(const std::vector<PlannedRequest>& requests);

}  // namespace baton::load
