#include "engine/runtime/cuda/cuda_step_sampler.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace baton {

absl::StatusOr<std::unique_ptr<CudaStepSampler>> CudaStepSampler::Create(CudaModel* model,
                                                                         int32_t max_rows) {
  ASSIGN_OR_RETURN(CudaSampler first,
                   CudaSampler::Create(model->context(), max_rows, model->info().vocab_size));
  ASSIGN_OR_RETURN(CudaSampler second, CudaSampler::CreateBeside(first));
  std::array<Step, 2> steps = {Step{.sampler = std::move(first)},
                               Step{.sampler = std::move(second)}};
  for (Step& step : steps) {
    ASSIGN_OR_RETURN(step.turn_over, CudaEvent::Create());
  }
  return std::unique_ptr<CudaStepSampler>(new CudaStepSampler(model, std::move(steps), max_rows));
}

CudaStepSampler::CudaStepSampler(CudaModel* model, std::array<Step, 2> steps, int32_t max_rows)
    : model_(*model), steps_(std::move(steps)), max_rows_(static_cast<size_t>(max_rows)) {
  model->UseLogits([this](const float* logits, int32_t) { return OnLogits(logits); });
}

CudaStepSampler::~CudaStepSampler() {
  // An error is of a device that writes nothing any more.
  if (open_ > 0) (void)model_.context().Synchronize();
}

void CudaStepSampler::Begin(std::function<absl::Status()> add_draws) {
  BATON_CHECK(open_ < 2) << "a third step";
  ++open_;
  model_.TakeTokensFrom(Newest().sampler.drawn());
  newest_ = (newest_ + 1) % steps_.size();
  add_draws_ = std::move(add_draws);
  Step& step = Newest();
  step.logits = nullptr;
  step.draws.clear();
  step.next = 0;
  step.drawn.clear();
}

absl::Status CudaStepSampler::Add(int32_t logits_row, const SampleContext& context) {
  Newest().draws.push_back({.logits_row = logits_row, .context = context});
  return absl::OkStatus();
}

absl::Status CudaStepSampler::AddGiven(int32_t logits_row, TokenId token, int32_t num_logprobs) {
  Newest().draws.push_back(
      {.logits_row = logits_row, .token = token, .num_logprobs = num_logprobs});
  return absl::OkStatus();
}

absl::Status CudaStepSampler::OnLogits(const float* logits) {
  Newest().logits = logits;
  RETURN_IF_ERROR(add_draws_());
  return StartTurn(&Newest());
}

absl::Status CudaStepSampler::StartTurn(Step* step) {
  CudaSampler& sampler = step->sampler;
  sampler.Clear();
  const size_t count = std::min(max_rows_, step->draws.size() - step->next);
  for (const Draw& draw : std::span(step->draws).subspan(step->next, count)) {
    RETURN_IF_ERROR(draw.context.has_value()
                        ? sampler.Add(draw.logits_row, *draw.context)
                        : sampler.AddGiven(draw.logits_row, draw.token, draw.num_logprobs));
  }
  step->next += count;
  RETURN_IF_ERROR(sampler.Start(step->logits));
  step->turn_over.Record(model_.context());
  return model_.context().status();
}

absl::Status CudaStepSampler::TakeTurn(Step* step) {
  step->turn_over.Wait(model_.context());
  RETURN_IF_ERROR(model_.context().status());
  for (int32_t row = 0; row < step->sampler.num_rows(); ++row) {
    ASSIGN_OR_RETURN(DrawnToken token, step->sampler.Take(row));
    step->drawn.push_back(std::move(token));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::span<DrawnToken>> CudaStepSampler::Finish(const Logits&) {
  BATON_CHECK(open_ > 0) << "Finish without Begin";
  Step& step = steps_[open_ == 2 ? (newest_ + 1) % steps_.size() : newest_];
  --open_;
  if (step.logits == nullptr) return std::span(step.drawn);  // it draws nothing
  RETURN_IF_ERROR(TakeTurn(&step));
  // The logits of a step behind would lie in their place by now.
  BATON_CHECK(step.next == step.draws.size() || open_ == 0) << step.draws.size() << " draws";
  while (step.next < step.draws.size()) {
    RETURN_IF_ERROR(StartTurn(&step));
    RETURN_IF_ERROR(TakeTurn(&step));
  }
  return std::span(step.drawn);
}

}  // namespace baton
