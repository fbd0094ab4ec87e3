#include "bench/load/core/workload.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/check.h"
#include "common/hash.h"

namespace baton::load {
namespace {

// Streams of one seed.
constexpr uint64_t kArrivalStream = 1;
constexpr uint64_t kLengthStream = 2;
constexpr uint64_t kClassStream = 3;

absl::Status Invalid(const std::string& message) { return absl::InvalidArgumentError(message); }

bool UsesTrace(const WorkloadSpec& spec) {
  return spec.arrivals.kind == ArrivalKind::kTrace || spec.lengths.kind == LengthKind::kTrace;
}

absl::Status Check(const WorkloadSpec& spec, const std::vector<TraceRow>& trace) {
  BATON_CHECK(!spec.classes.empty());
  if (UsesTrace(spec) && trace.empty()) return Invalid("trace: none given, or it has no rows");
  if (spec.trace_first_row < 0 ||
      (UsesTrace(spec) && spec.trace_first_row >= static_cast<int64_t>(trace.size()))) {
    return Invalid(absl::StrCat("trace_first_row: ", spec.trace_first_row,
                                "; the trace has rows 0 to ", trace.size() - 1));
  }
  if (!(spec.length_scale > 0) || !std::isfinite(spec.length_scale)) {
    return Invalid(absl::StrFormat("length_scale: %g; it must be above 0", spec.length_scale));
  }
  if (spec.trace_speedup != 0 && spec.trace_rate_per_s != 0) {
    return Invalid("speedup and rate both rescale the trace's times: give one of them");
  }
  if (spec.trace_speedup < 0 || spec.trace_rate_per_s < 0) {
    return Invalid("speedup and rate must be above 0");
  }
  return absl::OkStatus();
}

// Times of the trace's rows from `trace_first_row` on, divided by the speed-up in effect.
absl::StatusOr<std::vector<absl::Duration>> TraceArrivals(const WorkloadSpec& spec,
                                                          const std::vector<TraceRow>& trace,
                                                          LoadPlan* plan) {
  const auto first = static_cast<size_t>(spec.trace_first_row);
  size_t count = trace.size() - first;
  if (spec.limit.max_requests > 0) {
    const auto wanted = static_cast<size_t>(spec.limit.max_requests + spec.warmup_requests);
    if (wanted > count) {
      return Invalid(absl::StrCat("num_requests: ", wanted, " with the warm-up; the trace has ",
                                  count, " rows from row ", first, " on"));
    }
    count = wanted;
  }
  const absl::Duration origin = trace[first].at;
  if (spec.trace_speedup > 0) plan->trace_speedup = spec.trace_speedup;
  if (spec.trace_rate_per_s > 0) {
    const double span_s = absl::ToDoubleSeconds(trace[first + count - 1].at - origin);
    if (count < 2 || span_s <= 0) return Invalid("rate: the rows all have the same timestamp");
    const double native_per_s = static_cast<double>(count - 1) / span_s;
    plan->trace_speedup = spec.trace_rate_per_s / native_per_s;
  }
  std::vector<absl::Duration> arrivals;
  for (size_t i = 0; i < count; ++i) {
    const absl::Duration at = (trace[first + i].at - origin) / plan->trace_speedup;
    if (at >= spec.limit.duration) break;
    arrivals.push_back(at);
  }
  return arrivals;
}

absl::StatusOr<std::vector<absl::Duration>> Arrivals(const WorkloadSpec& spec,
                                                     const std::vector<TraceRow>& trace,
                                                     LoadPlan* plan) {
  if (spec.arrivals.kind == ArrivalKind::kTrace) return TraceArrivals(spec, trace, plan);
  RunLimit limit = spec.limit;
  if (limit.max_requests > 0) limit.max_requests += spec.warmup_requests;
  return MakeArrivals(spec.arrivals, limit, Rng(plan->seed, kArrivalStream));
}

// The row that request `i` takes its lengths from.
size_t RowOf(const WorkloadSpec& spec, const std::vector<TraceRow>& trace, size_t i, Rng& rng) {
  const auto first = static_cast<size_t>(spec.trace_first_row);
  const bool in_order =
      spec.arrivals.kind == ArrivalKind::kTrace || !trace[first].block_ids.empty();
  if (in_order) return first + i % (trace.size() - first);
  return static_cast<size_t>(
      rng.UniformInt(static_cast<int64_t>(first), static_cast<int64_t>(trace.size()) - 1));
}

int32_t DrawClass(const std::vector<SloClass>& classes, Rng& rng) {
  double left = rng.Uniform();
  for (size_t i = 0; i + 1 < classes.size(); ++i) {
    left -= classes[i].share;
    if (left <= 0) return static_cast<int32_t>(i);
  }
  return static_cast<int32_t>(classes.size()) - 1;
}

// Shortens the prompt first, since forced outputs are what the run is about.
void Clip(int32_t max_model_len, PlannedRequest* request) {
  request->output_tokens = std::min(request->output_tokens, max_model_len - 1);
  request->prompt_tokens = std::min(request->prompt_tokens, max_model_len - request->output_tokens);
}

absl::Status FitContext(const WorkloadSpec& spec, LoadPlan* plan) {
  if (spec.max_model_len <= 0) return absl::OkStatus();
  const auto too_long = [&](const PlannedRequest& request) {
    return int64_t{request.prompt_tokens} + request.output_tokens > spec.max_model_len;
  };
  std::vector<PlannedRequest>& requests = plan->requests;
  const int64_t overlong = std::count_if(requests.begin(), requests.end(), too_long);
  if (overlong == 0) return absl::OkStatus();
  switch (spec.overlong) {
    case Overlong::kFail:
      return Invalid(absl::StrCat(
          overlong, " of ", requests.size(), " requests are longer than the model's context of ",
          spec.max_model_len,
          " tokens; scale them (--length-scale), or say --overlong drop or --overlong clip"));
    case Overlong::kDrop:
      plan->dropped = overlong;
      std::erase_if(requests, too_long);
      return absl::OkStatus();
    case Overlong::kClip:
      plan->clipped = overlong;
      for (PlannedRequest& request : requests) {
        if (too_long(request)) Clip(spec.max_model_len, &request);
      }
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

}  // namespace

double OfferedRate(const std::vector<PlannedRequest>& requests) {
  const auto first = std::find_if(requests.begin(), requests.end(),
                                  [](const PlannedRequest& request) { return !request.warmup; });
  const auto count = requests.end() - first;
  if (count < 2) return 0;
  const double span_s = absl::ToDoubleSeconds(requests.back().at - first->at);
  return span_s > 0 ? static_cast<double>(count - 1) / span_s : 0;
}

absl::StatusOr<LoadPlan> BuildPlan(const WorkloadSpec& spec, const std::vector<TraceRow>& trace,
                                   uint64_t seed) {
  RETURN_IF_ERROR(Check(spec, trace));
  LoadPlan plan;
  plan.seed = seed;
  plan.classes = spec.classes;
  ASSIGN_OR_RETURN(const std::vector<absl::Duration> arrivals, Arrivals(spec, trace, &plan));
  Rng length_rng(seed, kLengthStream);
  Rng class_rng(seed, kClassStream);
  for (size_t i = 0; i < arrivals.size(); ++i) {
    PlannedRequest request;
    request.at = arrivals[i];
    Lengths lengths;
    if (spec.lengths.kind == LengthKind::kTrace) {
      const TraceRow& row = trace[RowOf(spec, trace, i, length_rng)];
      lengths = ScaleLengths(row.lengths, spec.length_scale);
      request.block_ids = row.block_ids;
      if (!row.block_ids.empty()) {
        plan.block_tokens =
            static_cast<int32_t>(std::max(1.0, std::round(kTraceBlockTokens * spec.length_scale)));
      }
    } else {
      lengths = DrawLengths(spec.lengths, spec.length_scale, length_rng);
    }
    request.prompt_tokens = lengths.prompt_tokens;
    request.output_tokens = lengths.output_tokens;
    request.slo_class = DrawClass(spec.classes, class_rng);
    request.content_seed = HashCombine(seed, i);
    plan.requests.push_back(std::move(request));
  }
  RETURN_IF_ERROR(FitContext(spec, &plan));
  const size_t warmup = std::min(static_cast<size_t>(spec.warmup_requests), plan.requests.size());
  for (size_t i = 0; i < warmup; ++i) plan.requests[i].warmup = true;
  if (warmup == plan.requests.size()) {
    return Invalid(absl::StrCat("the run has no measured request: ", plan.requests.size(),
                                " in all, of which ", warmup, " are the warm-up"));
  }
  plan.offered_per_s = OfferedRate(plan.requests);
  return plan;
}

}  // namespace baton::load
