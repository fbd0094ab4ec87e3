// Draws a step's tokens on the device that has computed its logits: only tokens come to the host.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/cuda/sampler.h"
#include "engine/model/cuda/cuda_model.h"
#include "engine/runtime/step_sampler.h"

namespace baton {

// Draws are enqueued behind the logits while the device still computes them, so that a step waits
// for the device once; those of a step with more than `max_rows` in several turns. The model, whose
// logits stay, outlives it and moves no more.
class CudaStepSampler final : public StepSampler {
 public:
  // See CudaSampler::Create.
  static absl::StatusOr<std::unique_ptr<CudaStepSampler>> Create(CudaModel* model,
                                                                 int32_t max_rows);

  int64_t device_bytes() const { return sampler_.device_bytes(); }

  void Begin(std::function<absl::Status()> add_draws, std::function<void()> beside) override;
  bool on_device() const override { return true; }
  absl::Status Add(int32_t logits_row, const SampleContext& context) override;
  absl::Status AddGiven(int32_t logits_row, TokenId token, int32_t num_logprobs) override;
  absl::StatusOr<std::span<DrawnToken>> Finish(const Logits& logits) override;

 private:
  struct Draw {
    int32_t logits_row = 0;
    std::optional<SampleContext> context;  // none: scored
    TokenId token = 0;
    int32_t num_logprobs = 0;
  };
  CudaStepSampler(CudaModel* model, CudaSampler sampler, int32_t max_rows);
  absl::Status OnLogits(const float* logits);
  // The next turn, from draws_[next_] on.
  absl::Status StartTurn();
  absl::Status TakeTurn();

  const CudaContext& context_;
  CudaSampler sampler_;
  const size_t max_rows_;
  std::function<absl::Status()> add_draws_;
  std::function<void()> beside_;
  // Of one step.
  const float* logits_ = nullptr;  // device
  std::vector<Draw> draws_;
  size_t next_ = 0;  // of draws_
  std::vector<DrawnToken> drawn_;
};

}  // namespace baton
