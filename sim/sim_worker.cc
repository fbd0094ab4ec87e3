#include "sim/sim_worker.h"

#include <algorithm>
#include <limits>

namespace baton::sim {
namespace {

constexpr double kTpotMargin = 0.95;  // as the scheduler's

}  // namespace

bool SimWorker::Reserve() {
  // Twice the batch: what is sealed waits for a place in it.
  if (reserved_ >= 2 * options_.batch_sequences) return false;
  ++reserved_;
  return true;
}

void SimWorker::Abort(const RequestKey& key, bool reserved) {
  std::erase_if(prompts_, [&](const SimPrompt& each) { return each.key == key; });
  const auto row =
      std::find_if(rows_.begin(), rows_.end(), [&](const SimRow& each) { return each.key == key; });
  if (row != rows_.end()) {
    if (static_cast<size_t>(row - rows_.begin()) < rows_in_step_) --rows_in_step_;
    rows_.erase(row);
  }
  if (reserved) --reserved_;
}

double SimWorker::BeginStep() {
  stepping_ = true;
  chunks_.clear();
  rows_in_step_ = std::min(rows_.size(), static_cast<size_t>(options_.batch_sequences));
  StepShape shape;
  double limit_ms = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < rows_in_step_; ++i) {
    SimRow& row = rows_[i];
    ++shape.decode_rows;
    shape.decode_context += row.context;
    if (!std::exchange(row.joined, true)) joined_.push_back(row.key);
    if (row.tpot_ms > 0) limit_ms = std::min(limit_ms, kTpotMargin * row.tpot_ms);
  }
  int32_t budget = options_.batch_tokens - static_cast<int32_t>(rows_in_step_);
  for (const SimPrompt& prompt : prompts_) {
    if (budget <= 0) break;
    const int32_t chunk =
        std::min({budget, prompt.tokens - prompt.done, RoomFor(shape, prompt, limit_ms)});
    if (chunk <= 0) break;
    shape += StepShape::Prefill(chunk, prompt.done);
    chunks_.emplace_back(prompt.key, chunk);
    budget -= chunk;
  }
  const double ms = options_.model.PredictMs(shape) * slowdown_;
  tracker_.Observe(shape, ms / options_.slowdown);
  return ms;
}

// Tokens of the prompt that still fit under the limit.
int32_t SimWorker::RoomFor(const StepShape& shape, const SimPrompt& prompt, double limit_ms) const {
  int32_t most = 0;
  for (int32_t too_many = prompt.tokens - prompt.done + 1; too_many - most > 1;) {
    const int32_t middle = most + (too_many - most) / 2;
    StepShape with = shape;
    with += StepShape::Prefill(middle, prompt.done);
    (options_.model.PredictMs(with) * slowdown_ <= limit_ms ? most : too_many) = middle;
  }
  return most;
}

SimStep SimWorker::EndStep() {
  stepping_ = false;
  ++steps_;
  SimStep step;
  for (size_t i = 0; i < rows_in_step_; ++i) {
    ++rows_[i].emitted;
    ++rows_[i].context;
    step.decoded.push_back(rows_[i]);
  }
  const auto ended = std::remove_if(rows_.begin(), rows_.end(),
                                    [](const SimRow& row) { return row.emitted >= row.output; });
  reserved_ -= static_cast<int32_t>(rows_.end() - ended);
  rows_.erase(ended, rows_.end());
  for (const auto& [key, tokens] : chunks_) {
    const auto prompt =
        std::find_if(prompts_.begin(), prompts_.end(),
                     [&key = key](const SimPrompt& each) { return each.key == key; });
    if (prompt == prompts_.end()) continue;  // aborted meanwhile
    prompt->done += tokens;
    if (prompt->done < prompt->tokens) continue;
    step.prefilled.push_back(*prompt);
    prompts_.erase(prompt);
  }
  for (const SimPrompt& prompt : step.prefilled) {
    if (prompt.destination != router::kNoWorker) continue;
    if (prompt.output > 1) {
      rows_.push_back({.key = prompt.key,
                       .context = prompt.tokens + 1,
                       .emitted = 1,
                       .output = prompt.output,
                       .tpot_ms = prompt.tpot_ms,
                       .joined = true});
    } else {
      --reserved_;
    }
  }
  return step;
}

router::WorkerReport SimWorker::Report() const {
  router::WorkerReport report;
  report.steps_completed = steps_;
  report.step_time = tracker_.step_time();
  report.running = reserved_;
  report.waiting = static_cast<int32_t>(prompts_.size());
  report.free_blocks = 1 << 20;
  report.credits = options_.credits - static_cast<int32_t>(prompts_.size());
  // What it was from the beginning is known, what has come since is measured.
  report.prefill_factors = tracker_.prefill_factors();
  report.decode_factors = tracker_.decode_factors();
  for (float& factor : report.prefill_factors.at) factor *= static_cast<float>(options_.slowdown);
  for (float& factor : report.decode_factors.at) factor *= static_cast<float>(options_.slowdown);
  report.decode_rows = rows();
  for (const SimRow& row : rows_) report.decode_context += row.context;
  for (const SimPrompt& prompt : prompts_) {
    const StepShape left = StepShape::Prefill(prompt.tokens - prompt.done, prompt.done);
    report.prefill_tokens_left += left.prefill_tokens;
    report.prefill_pairs_left += left.prefill_pairs;
  }
  return report;
}

double SimWorker::StepMsWithOneMore(int32_t context) const {
  StepShape shape{.decode_rows = rows() + 1, .decode_context = context};
  for (const SimRow& row : rows_) shape.decode_context += row.context;
  return options_.model.PredictMs(shape) * slowdown_;
}

}  // namespace baton::sim
