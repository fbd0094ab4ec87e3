#include "router/core/predictor.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/container/inlined_vector.h"

namespace baton::router {
namespace {

constexpr double kObserveWeight = 0.02;
// Of forecast waits: shorter ones say nothing; the share of waits that the factor is to cover; how
// far one of them moves it (its logarithm); what is believed.
constexpr double kLeastWaitMs = 20;
constexpr double kWaitQuantile = 0.98;
constexpr double kWaitStep = 0.03;
constexpr double kMostWaitError = 10;
// How much sooner than predicted a row may start, as a part of the time until then: assumed.
constexpr double kStartError = 0.25;
// The part of a TPOT objective that a worker's scheduler fills (SchedulerOptions::tpot_margin).
constexpr double kTpotMargin = 0.95;
constexpr double kOthersSteps = 16;  // of rows that are not ours: assumed

// Only to rank workers by. Its profile is empty: known() is false.
constexpr StepModel kNominal{.prefill_base_ms = 5,
                             .prefill_token_ms = 0.1,
                             .decode_base_ms = 10,
                             .decode_row_ms = 0.5,
                             .decode_context_ms = 1e-4};

const StepModel& ModelOf(const WorkerState& worker) {
  return worker.known() ? worker.info.step_model : kNominal;
}

double DecodeStepMs(const WorkerState& worker, double rows, double context) {
  if (rows <= 0) return 0;
  const StepModel& model = ModelOf(worker);
  return (model.decode_base_ms + model.decode_row_ms * rows + model.decode_context_ms * context) *
         worker.report.decode_factors.At(rows);
}

}  // namespace

double PrefillMs(const WorkerState& worker, int64_t tokens, int64_t cached) {
  const int64_t fresh = std::max<int64_t>(1, tokens - cached);
  const StepModel& model = ModelOf(worker);
  const int64_t step_tokens = worker.info.max_batch_tokens;
  const int64_t more_steps = step_tokens > 0 ? (fresh - 1) / step_tokens : 0;
  const double ms = model.PredictMs(StepShape::Prefill(fresh, tokens - fresh)) +
                    static_cast<double>(more_steps) * model.prefill_base_ms;
  const int64_t each = step_tokens > 0 ? std::min(fresh, step_tokens) : fresh;
  return ms * worker.report.prefill_factors.At(static_cast<double>(each));
}

double FullPrefillStepMs(const WorkerState& worker) {
  return PrefillMs(worker, std::max(1, worker.info.max_batch_tokens), 0);
}

double ReportedPrefillMs(const WorkerState& worker) {
  if (worker.report.prefill_tokens_left <= 0) return 0;
  const StepShape shape{.prefill_tokens = worker.report.prefill_tokens_left,
                        .prefill_pairs = worker.report.prefill_pairs_left};
  const int64_t each = worker.info.max_batch_tokens > 0
                           ? std::min<int64_t>(shape.prefill_tokens, worker.info.max_batch_tokens)
                           : shape.prefill_tokens;
  return ModelOf(worker).PredictMs(shape) *
         worker.report.prefill_factors.At(static_cast<double>(each));
}

DecodeOutlook DecodeAt(const WorkerState& worker, absl::Time now, absl::Time at) {
  const double now_ms = MsOf(now);
  const double ahead_ms = std::max(0.0, MsOf(at) - now_ms);
  const double rows_now = worker.decoding_rows + worker.others_rows;
  const double context_now = static_cast<double>(worker.decoding_context + worker.others_context);
  // With an empty batch: as long as a step of one row takes.
  const double step_now =
      std::max(1e-3, DecodeStepMs(worker, std::max(1.0, rows_now), context_now));
  const double steps_ahead = ahead_ms / step_now;
  DecodeOutlook out{.rows = static_cast<double>(worker.others_rows),
                    .context = static_cast<double>(worker.others_context),
                    .tightest_ms = std::numeric_limits<double>::infinity()};
  absl::InlinedVector<double, 128> objectives;  // TPOT, of the rows that will be there
  for (const DecodeRow& row : worker.rows) {
    if (row.samples == 0) continue;
    double steps_done = steps_ahead;  // by then
    if (!row.decoding) {
      // One that begins later than we would is no part of our batch yet.
      const double begins_ms = std::max(0.0, row.starts_ms - now_ms);
      if (begins_ms > ahead_ms) continue;
      steps_done = (ahead_ms - begins_ms) / step_now;
    }
    if (steps_done >= row.steps_left()) continue;
    out.rows += row.samples;
    out.context += static_cast<double>(row.context) + row.samples * steps_done;
    objectives.push_back(row.tpot_ms);
  }
  out.step_ms = DecodeStepMs(worker, out.rows, out.context);
  for (const double objective : objectives) {
    if (objective >= out.step_ms) out.tightest_ms = std::min(out.tightest_ms, objective);
  }
  return out;
}

double StepMsWith(const WorkerState& worker, const DecodeOutlook& outlook, double rows,
                  double context) {
  return DecodeStepMs(worker, outlook.rows + rows, outlook.context + context);
}

double PacedTtftMs(const WorkerState& worker, absl::Time now, int64_t tokens, int64_t cached) {
  const double now_ms = MsOf(now);
  const double alone_ms = PrefillMs(worker, tokens, cached);
  const double ms_per_token = alone_ms / static_cast<double>(std::max<int64_t>(1, tokens - cached));
  double work_ms = std::max(0.0, MsOf(worker.prefill.free_at()) - now_ms) + alone_ms;
  double decode_ms = 0;  // that passes meanwhile

  // As its scheduler does: rows that miss their objective even alone set no limit. What others
  // have placed there leaves nothing, for all that is known.
  const DecodeOutlook outlook = DecodeAt(worker, now, now);
  double limit_ms = worker.others_rows > 0 ? 0 : std::numeric_limits<double>::infinity();
  double steps = worker.others_rows > 0 ? kOthersSteps : 0;  // until the batch is empty
  for (const DecodeRow& row : worker.rows) {
    if (row.samples == 0 || !row.decoding) continue;
    steps = std::max(steps, row.steps_left());
    const double context = static_cast<double>(row.context) / row.samples;
    if (row.tpot_ms >= DecodeStepMs(worker, 1, context)) {
      limit_ms = std::min(limit_ms, kTpotMargin * row.tpot_ms);
    }
  }
  if (std::isfinite(limit_ms)) {
    const double room_ms = limit_ms - outlook.step_ms;
    const double in_step_ms = room_ms >= ms_per_token ? room_ms : 0;
    const double steps_shared = in_step_ms > 0 ? std::min(steps, work_ms / in_step_ms) : steps;
    work_ms -= steps_shared * in_step_ms;
    decode_ms += steps_shared * (outlook.step_ms + in_step_ms);
  }
  for (const DecodeRow& row : worker.rows) {
    if (row.samples == 0 || row.decoding) continue;
    if (row.starts_ms > now_ms + decode_ms + work_ms) continue;
    decode_ms +=
        row.steps_left() * DecodeStepMs(worker, row.samples, static_cast<double>(row.context));
  }
  return decode_ms + work_ms;
}

double JoinMs(const WorkerState& worker, absl::Time start) {
  if (!worker.known() || !worker.prefill.busy()) return 0;
  const double left_ms = absl::ToDoubleMilliseconds(worker.prefill.free_at() - start);
  return std::clamp(left_ms, 0.0, FullPrefillStepMs(worker));
}

bool StallIsSafe(const WorkerState& worker, absl::Time now, double stall_ms, double step_ms) {
  const double now_ms = MsOf(now);
  return std::all_of(worker.rows.begin(), worker.rows.end(), [&](const DecodeRow& row) {
    if (row.samples == 0 || row.decoding) return true;
    const double until_ms = std::max(0.0, row.starts_ms - now_ms);
    if (until_ms * (1 - kStartError) > stall_ms) return true;
    if (row.emitted == 0 && now_ms + until_ms + stall_ms <= row.due_ms) return true;
    // The first token of all comes with the prefill: no gap before it.
    const double gaps = std::max(1.0, row.steps_left() - (row.emitted > 0 ? 0 : 1));
    const double allowed_ms = row.tpot_ms * gaps;
    return gaps * step_ms > allowed_ms || gaps * step_ms + stall_ms <= allowed_ms;
  });
}

void OutputLengths::Observe(int32_t most, int32_t actual) {
  if (most <= 0) return;
  const double ratio = std::clamp(static_cast<double>(actual) / most, 0.0, 1.0);
  ratio_ += kObserveWeight * (ratio - ratio_);
}

void WaitError::Observe(double forecast_ms, double actual_ms) {
  if (forecast_ms < kLeastWaitMs) return;
  const bool exceeded = actual_ms > factor_ * forecast_ms;
  const double step = exceeded ? kWaitQuantile : kWaitQuantile - 1;
  factor_ = std::clamp(factor_ * std::exp(kWaitStep * step), 1.0, kMostWaitError);
}

int32_t OutputLengths::Expected(int32_t most, bool ignore_eos) const {
  if (ignore_eos) return std::max(1, most);
  return std::clamp(static_cast<int32_t>(std::lround(ratio_ * most)), 1, std::max(1, most));
}

}  // namespace baton::router
