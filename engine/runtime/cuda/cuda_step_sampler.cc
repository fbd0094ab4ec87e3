#include "engine/runtime/cuda/cuda_step_sampler.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace baton {

absl::StatusOr<std::unique_ptr<CudaStepSampler>> CudaStepSampler::Create(CudaModel* model,
                                                                         int32_t max_rows) {
  ASSIGN_OR_RETURN(CudaSampler sampler,
                   CudaSampler::Create(model->context(), max_rows, model->info().vocab_size));
  return std::unique_ptr<CudaStepSampler>(new CudaStepSampler(model, std::move(sampler), max_rows));
}

CudaStepSampler::CudaStepSampler(CudaModel* model, CudaSampler sampler, int32_t max_rows)
    : context_(model->context()),
      sampler_(std::move(sampler)),
      max_rows_(static_cast<size_t>(max_rows)) {
  model->UseLogits([this](const float* logits, int32_t) { return OnLogits(logits); });
}

void CudaStepSampler::Begin(std::function<absl::Status()> add_draws, std::function<void()> beside) {
  add_draws_ = std::move(add_draws);
  beside_ = std::move(beside);
  logits_ = nullptr;
  draws_.clear();
  next_ = 0;
  drawn_.clear();
}

absl::Status CudaStepSampler::Add(int32_t logits_row, const SampleContext& context) {
  draws_.push_back({.logits_row = logits_row, .context = context});
  return absl::OkStatus();
}

absl::Status CudaStepSampler::AddGiven(int32_t logits_row, TokenId token, int32_t num_logprobs) {
  draws_.push_back({.logits_row = logits_row, .token = token, .num_logprobs = num_logprobs});
  return absl::OkStatus();
}

absl::Status CudaStepSampler::OnLogits(const float* logits) {
  logits_ = logits;
  RETURN_IF_ERROR(add_draws_());
  RETURN_IF_ERROR(StartTurn());
  if (beside_) beside_();
  return absl::OkStatus();
}

absl::Status CudaStepSampler::StartTurn() {
  sampler_.Clear();
  const size_t count = std::min(max_rows_, draws_.size() - next_);
  for (const Draw& draw : std::span(draws_).subspan(next_, count)) {
    RETURN_IF_ERROR(draw.context.has_value()
                        ? sampler_.Add(draw.logits_row, *draw.context)
                        : sampler_.AddGiven(draw.logits_row, draw.token, draw.num_logprobs));
  }
  next_ += count;
  return sampler_.Start(logits_);
}

absl::Status CudaStepSampler::TakeTurn() {
  RETURN_IF_ERROR(context_.Synchronize());
  for (int32_t row = 0; row < sampler_.num_rows(); ++row) {
    ASSIGN_OR_RETURN(DrawnToken token, sampler_.Take(row));
    drawn_.push_back(std::move(token));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::span<DrawnToken>> CudaStepSampler::Finish(const Logits&) {
  if (logits_ == nullptr) return std::span(drawn_);  // a step without logits draws nothing
  RETURN_IF_ERROR(TakeTurn());
  while (next_ < draws_.size()) {
    RETURN_IF_ERROR(StartTurn());
    RETURN_IF_ERROR(TakeTurn());
  }
  return std::span(drawn_);
}

}  // namespace baton
