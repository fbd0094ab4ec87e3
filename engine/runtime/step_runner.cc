#include "engine/runtime/step_runner.h"

#include <algorithm>
#include <span>
#include <utility>

#include "common/check.h"

namespace baton {

StepRunner::StepRunner(Model* model, const KvRegion& kv, Scheduler* scheduler)
    : model_(*model), kv_(kv), scheduler_(*scheduler), sampler_(model->info().vocab_size) {}

absl::StatusOr<StepResult> StepRunner::Run(const StepLayerFn& layer_done) {
  StepResult result;
  const StepPlan& plan = scheduler_.Plan();
  if (plan.empty()) {
    result.events = scheduler_.TakeEvents();
    return result;
  }
  if (!plan.copies.empty()) RETURN_IF_ERROR(model_.CopyBlocks(plan.copies, kv_));
  RETURN_IF_ERROR(Forward(plan, layer_done));
  result.shape = plan.Shape();

  const size_t rows = plan.rows.size();
  drawn_.resize(std::max(drawn_.size(), rows));
  int32_t logits_row = 0;
  for (size_t i = 0; i < rows; ++i) {
    const StepPlan::Row& row = plan.rows[i];
    const auto num_tokens = static_cast<int32_t>(row.tokens.size());
    RETURN_IF_ERROR(ScorePrompt(row, logits_row, &result));
    logits_row += num_tokens - row.first_logit_token;
    RETURN_IF_ERROR(DrawRow(row, logits_row - 1, &drawn_[i]));
  }
  result.events = scheduler_.Commit(std::span(drawn_).first(rows));
  return result;
}

absl::Status StepRunner::Forward(const StepPlan& plan, const StepLayerFn& layer_done) {
  batch_.clear();
  for (const StepPlan::Row& row : plan.rows) {
    batch_.push_back(ForwardSequence{.tokens = row.tokens,
                                     .start_position = row.start_position,
                                     .block_table = row.block_table,
                                     .first_logit_token = row.first_logit_token});
  }
  const LayerDoneFn done = [&](int32_t layer) {
    if (layer_done) layer_done(layer, plan);
  };
  return model_.Forward(batch_, kv_, done, &logits_);
}

absl::Status StepRunner::DrawRow(const StepPlan::Row& row, int32_t logits_row,
                                 std::vector<SampledToken>* drawn) {
  drawn->clear();
  if (row.num_samples == 0) return absl::OkStatus();
  const GenerationSpec& spec = scheduler_.Spec(row.sequence);
  for (int32_t i = 0; i < row.num_samples; ++i) {
    const SampleContext context{.sampling = spec.sampling,
                                .stopping = spec.stopping,
                                .tokens = scheduler_.Tokens(row.sequence, row.branch),
                                .prompt_length = spec.prompt_length,
                                // Before the fork branch 0 draws for all samples.
                                .sample = spec.first_sample + row.branch + i,
                                .eos_tokens = model_.info().eos_tokens};
    ASSIGN_OR_RETURN(DrawnToken token, sampler_.Draw(logits_.Row(logits_row), context));
    drawn->push_back(SampledToken{.token = token.token,
                                  .logprob = token.logprob,
                                  .top_logprobs = std::move(token.top_logprobs)});
  }
  return absl::OkStatus();
}

absl::Status StepRunner::ScorePrompt(const StepPlan::Row& row, int32_t first_logits_row,
                                     StepResult* result) {
  const GenerationSpec& spec = scheduler_.Spec(row.sequence);
  const int32_t num_logprobs = spec.sampling.num_prompt_logprobs;
  if (num_logprobs < 0 || !row.is_prefill) return absl::OkStatus();
  StepResult::PromptLogprobs scored{.sequence = row.sequence};
  const auto num_tokens = static_cast<int32_t>(row.tokens.size());
  for (int32_t i = row.first_logit_token; i < num_tokens; ++i) {
    // A token's logits say how likely the next one is.
    const int32_t position = row.start_position + i + 1;
    if (position >= spec.prompt_length) break;
    const TokenId token = spec.tokens[static_cast<size_t>(position)];
    const int32_t logits_row = first_logits_row + i - row.first_logit_token;
    ASSIGN_OR_RETURN(DrawnToken score,
                     sampler_.Score(logits_.Row(logits_row), token, num_logprobs));
    scored.tokens.push_back(TokenOutput{.sample = spec.first_sample,
                                        .index = position,
                                        .token = token,
                                        .logprob = score.logprob,
                                        .top_logprobs = std::move(score.top_logprobs)});
  }
  if (!scored.tokens.empty()) result->prompt_logprobs.push_back(std::move(scored));
  return absl::OkStatus();
}

}  // namespace baton
