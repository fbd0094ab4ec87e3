#include "engine/runtime/step_sampler.h"

#include <utility>

#include "common/check.h"

namespace baton {

absl::Status HostStepSampler::Add(int32_t logits_row, const SampleContext& context) {
  ASSIGN_OR_RETURN(DrawnToken token, sampler_.Draw(logits_->Row(logits_row), context));
  drawn_.push_back(std::move(token));
  return absl::OkStatus();
}

absl::Status HostStepSampler::AddGiven(int32_t logits_row, TokenId token, int32_t num_logprobs) {
  ASSIGN_OR_RETURN(DrawnToken score, sampler_.Score(logits_->Row(logits_row), token, num_logprobs));
  drawn_.push_back(std::move(score));
  return absl::OkStatus();
}

absl::StatusOr<std::span<DrawnToken>> HostStepSampler::Finish(const Logits& logits) {
  drawn_.clear();
  logits_ = &logits;
  const absl::Status added = add_draws_();
  logits_ = nullptr;
  RETURN_IF_ERROR(added);
  return std::span(drawn_);
}

}  // namespace baton
