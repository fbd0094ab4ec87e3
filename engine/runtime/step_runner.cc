#include "engine/runtime/step_runner.h"

#include <algorithm>
#include <span>
#include <utility>

#include "common/check.h"

namespace baton {

StepRunner::StepRunner(Model* model, const KvRegion& kv, Scheduler* scheduler, StepSampler* sampler,
                       int32_t max_rows_ahead)
    : model_(*model),
      kv_(kv),
      scheduler_(*scheduler),
      sampler_(*sampler),
      max_rows_ahead_(static_cast<size_t>(max_rows_ahead)) {}

absl::StatusOr<StepResult> StepRunner::Run(const StepLayerFn& layer_done,
                                           const MeanwhileFn& meanwhile, bool may_run_ahead) {
  RETURN_IF_ERROR(ahead_);
  StepResult result;
  const StepPlan& plan = scheduler_.Plan();
  if (plan.empty()) {
    result.events = scheduler_.TakeEvents();
    return result;
  }
  const bool has_prompts = std::ranges::any_of(plan.rows, &StepPlan::Row::is_prefill);
  // A device computes a decode step as a whole, and the caller has something else to do meanwhile.
  const bool tells_at_end = sampler_.on_device() && !has_prompts;
  if (!tells_at_end && meanwhile) meanwhile();
  result.started_ahead = std::exchange(is_ahead_, false);
  if (!result.started_ahead) {
    RETURN_IF_ERROR(Start(plan, tells_at_end ? nullptr : layer_done));
  }
  if (may_run_ahead) ahead_ = StartAhead(plan);
  if (tells_at_end && meanwhile) meanwhile();
  ASSIGN_OR_RETURN(std::span<DrawnToken> drawn, sampler_.Finish(logits_));
  if (tells_at_end && layer_done) {
    for (int32_t layer = 0; layer < kv_.layout.num_layers; ++layer) layer_done(layer, plan);
  }
  result.shape = plan.Shape();

  const size_t rows = plan.rows.size();
  drawn_.resize(std::max(drawn_.size(), rows));
  for (size_t i = 0; i < rows; ++i) {
    TakePromptScores(plan.rows[i], &drawn, &result);
    TakeDraws(plan.rows[i], &drawn, &drawn_[i]);
  }
  result.events = scheduler_.Commit(std::span(drawn_).first(rows));
  return result;
}

absl::Status StepRunner::Start(const StepPlan& plan, const StepLayerFn& layer_done) {
  if (!plan.copies.empty()) RETURN_IF_ERROR(model_.CopyBlocks(plan.copies, kv_));
  sampler_.Begin([this, &plan] { return AddAllDraws(plan); });
  return Forward(plan, layer_done);
}

absl::Status StepRunner::StartAhead(const StepPlan& plan) {
  if (plan.rows.size() > max_rows_ahead_) return absl::OkStatus();
  const StepPlan& ahead = scheduler_.PlanAhead();
  if (ahead.empty()) return absl::OkStatus();
  is_ahead_ = true;
  return Start(ahead, nullptr);
}

absl::Status StepRunner::AddAllDraws(const StepPlan& plan) {
  int32_t logits_row = 0;
  for (const StepPlan::Row& row : plan.rows) {
    RETURN_IF_ERROR(AddPromptScores(row, logits_row));
    logits_row += static_cast<int32_t>(row.tokens.size()) - row.first_logit_token;
    RETURN_IF_ERROR(AddDraws(row, logits_row));
  }
  return absl::OkStatus();
}

absl::Status StepRunner::Forward(const StepPlan& plan, const StepLayerFn& layer_done) {
  batch_.clear();
  for (const StepPlan::Row& row : plan.rows) {
    batch_.push_back(ForwardSequence{.tokens = row.tokens,
                                     .start_position = row.start_position,
                                     .block_table = row.block_table,
                                     .first_logit_token = row.first_logit_token,
                                     .draw = row.drawn_row});  // each row before has one
  }
  if (!layer_done) return model_.Forward(batch_, kv_, nullptr, &logits_);
  return model_.Forward(
      batch_, kv_, [&](int32_t layer) { layer_done(layer, plan); }, &logits_);
}

absl::Status StepRunner::AddDraws(const StepPlan::Row& row, int32_t end_logits_row) {
  if (row.num_samples == 0) return absl::OkStatus();
  const GenerationSpec& spec = scheduler_.Spec(row.sequence);
  for (int32_t i = 0; i < row.num_samples; ++i) {
    const SampleContext context{.sampling = spec.sampling,
                                .stopping = spec.stopping,
                                .tokens = scheduler_.Tokens(row.sequence, row.branch),
                                .prompt_length = spec.prompt_length,
                                // Before the fork branch 0 draws for all samples.
                                .sample = spec.first_sample + row.branch + i,
                                .eos_tokens = model_.info().eos_tokens,
                                .num_unknown = row.drawn_row < 0 ? 0 : 1};
    RETURN_IF_ERROR(sampler_.Add(end_logits_row - 1, context));
  }
  return absl::OkStatus();
}

// A token's logits say how likely the next one is.
StepRunner::Positions StepRunner::ScoredPositions(const StepPlan::Row& row) const {
  if (!row.is_prefill) return {};
  const GenerationSpec& spec = scheduler_.Spec(row.sequence);
  if (spec.sampling.num_prompt_logprobs < 0) return {};
  const int32_t first = row.start_position + row.first_logit_token + 1;
  const int32_t last = row.start_position + static_cast<int32_t>(row.tokens.size()) + 1;
  return {.first = first, .last = std::max(first, std::min(last, spec.prompt_length))};
}

absl::Status StepRunner::AddPromptScores(const StepPlan::Row& row, int32_t first_logits_row) {
  const auto [first, last] = ScoredPositions(row);
  if (first == last) return absl::OkStatus();
  const GenerationSpec& spec = scheduler_.Spec(row.sequence);
  for (int32_t position = first; position < last; ++position) {
    RETURN_IF_ERROR(sampler_.AddGiven(first_logits_row + position - first,
                                      spec.tokens[static_cast<size_t>(position)],
                                      spec.sampling.num_prompt_logprobs));
  }
  return absl::OkStatus();
}

void StepRunner::TakeDraws(const StepPlan::Row& row, std::span<DrawnToken>* drawn,
                           std::vector<SampledToken>* samples) {
  samples->clear();
  const auto count = static_cast<size_t>(row.num_samples);
  for (DrawnToken& token : drawn->first(count)) {
    samples->push_back(SampledToken{.token = token.token,
                                    .logprob = token.logprob,
                                    .top_logprobs = std::move(token.top_logprobs)});
  }
  *drawn = drawn->subspan(count);
}

void StepRunner::TakePromptScores(const StepPlan::Row& row, std::span<DrawnToken>* drawn,
                                  StepResult* result) {
  const auto [first, last] = ScoredPositions(row);
  if (first == last) return;
  StepResult::PromptLogprobs scored{.sequence = row.sequence};
  const GenerationSpec& spec = scheduler_.Spec(row.sequence);
  for (int32_t position = first; position < last; ++position) {
    DrawnToken& score = (*drawn)[static_cast<size_t>(position - first)];
    scored.tokens.push_back(TokenOutput{.sample = spec.first_sample,
                                        .index = position,
                                        .token = spec.tokens[static_cast<size_t>(position)],
                                        .logprob = score.logprob,
                                        .top_logprobs = std::move(score.top_logprobs)});
  }
  *drawn = drawn->subspan(static_cast<size_t>(last - first));
  result->prompt_logprobs.push_back(std::move(scored));
}

}  // namespace baton
