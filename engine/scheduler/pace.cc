#include "engine/scheduler/pace.h"

#include <algorithm>
#include <limits>

namespace baton {

namespace {

// A prompt that takes no more steps, a block in each, is worth the TPOT that they cost.
constexpr int32_t kFewSteps = 4;
constexpr double kNoLimit = std::numeric_limits<double>::infinity();

StepShape RowOf(const Branch& branch) {
  return {.decode_rows = 1, .decode_context = branch.num_tokens()};
}

}  // namespace

StepPace::StepPace(const SchedulerState& state) : state_(state), limit_ms_(kNoLimit) {}

void StepPace::AddRow(const Sequence& sequence, const Branch& branch) {
  const StepShape row = RowOf(branch);
  shape_ += row;
  const double tpot_ms = sequence.objective.tpot_ms;
  if (state_.step_model == nullptr || tpot_ms <= 0) return;
  // What would be missed even alone must not hold up everybody else.
  if (state_.step_model->PredictMs(row) > tpot_ms) return;
  limit_ms_ = std::min(limit_ms_, tpot_ms * state_.options.tpot_margin);
}

bool StepPace::MayJoin(const Sequence& sequence, const Branch& branch) const {
  if (shape_.decode_rows == 0 || limit_ms_ == kNoLimit) return true;
  const double tpot_ms = sequence.objective.tpot_ms;
  const double patience_ms = tpot_ms > 0 ? tpot_ms * state_.options.join_patience_tokens
                                         : absl::ToDoubleMilliseconds(state_.options.patience);
  if (state_.elapsed_ms - branch.ready_ms >= patience_ms) return true;
  return PredictMs(RowOf(branch)) <= limit_ms_;
}

int32_t StepPace::RoomForChunk(const Sequence& sequence, const Branch& branch,
                               int32_t wanted) const {
  if (shape_.decode_rows == 0 || limit_ms_ == kNoLimit) return wanted;
  const auto fits = [&](int32_t tokens) {
    return PredictMs(StepShape::Prefill(tokens, branch.computed_tokens)) <= limit_ms_;
  };
  if (fits(wanted)) return wanted;
  int32_t most = 0;
  for (int32_t too_many = wanted; too_many - most > 1;) {
    const int32_t middle = most + (too_many - most) / 2;
    (fits(middle) ? most : too_many) = middle;
  }
  if (shape_.prefill_tokens > 0 || !CanWaitNoLonger(sequence, branch)) return most;
  return std::max(most, std::min(wanted, state_.options.block_size));
}

bool StepPace::CanWaitNoLonger(const Sequence& sequence, const Branch& branch) const {
  if (IsMidStream(sequence, branch)) return true;
  const SequenceObjective& objective = sequence.objective;
  const double waited_ms = state_.elapsed_ms - sequence.added_ms;
  const double to_order_ms = absl::ToDoubleMilliseconds(sequence.order - objective.arrived);
  if (sequence.order != objective.first_token_due) return waited_ms >= to_order_ms;

  const int32_t block = state_.options.block_size;
  const int32_t left = branch.num_tokens() - branch.computed_tokens;
  const int32_t steps = (left + block - 1) / block;
  if (steps <= kFewSteps) {
    const double step_ms = PredictMs(StepShape::Prefill(block, branch.computed_tokens));
    if (waited_ms < to_order_ms && waited_ms + steps * step_ms >= to_order_ms) return true;
  }
  return waited_ms >= to_order_ms + absl::ToDoubleMilliseconds(state_.options.patience);
}

void StepPace::AddChunk(int32_t tokens, int32_t computed) {
  shape_ += StepShape::Prefill(tokens, computed);
}

double StepPace::PredictMs(const StepShape& more) const {
  StepShape shape = shape_;
  shape += more;
  return state_.step_model->PredictMs(shape);
}

}  // namespace baton
