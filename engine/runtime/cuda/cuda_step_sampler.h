// Draws a step's tokens on the device that has computed its logits: only tokens come to the host.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/cuda/event.h"
#include "engine/kernels/cuda/sampler.h"
#include "engine/model/cuda/cuda_model.h"
#include "engine/runtime/step_sampler.h"

namespace baton {

// Draws are enqueued behind the logits while the device still computes them, so that a step waits
// for the device once; those of a step with more than `max_rows` in several turns. Two steps may be
// open. The model, whose logits stay, outlives it and moves no more.
class CudaStepSampler final : public StepSampler {
 public:
  // See CudaSampler::Create.
  static absl::StatusOr<std::unique_ptr<CudaStepSampler>> Create(CudaModel* model,
                                                                 int32_t max_rows);

  // Waits for the device if a step is open: it writes to memory of this.
  ~CudaStepSampler() override;

  // The scratch is of both.
  int64_t device_bytes() const {
    return steps_[0].sampler.device_bytes() + steps_[1].sampler.drawn_bytes();
  }

  void Begin(std::function<absl::Status()> add_draws) override;
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
  struct Step {
    CudaSampler sampler;
    CudaEvent turn_over;
    const float* logits = nullptr;  // device; null: there are none
    std::vector<Draw> draws;
    size_t next = 0;  // of draws
    std::vector<DrawnToken> drawn;
  };
  CudaStepSampler(CudaModel* model, std::array<Step, 2> steps, int32_t max_rows);
  absl::Status OnLogits(const float* logits);
  Step& Newest() { return steps_[newest_]; }
  // The next turn, from `next` on.
  absl::Status StartTurn(Step* step);
  absl::Status TakeTurn(Step* step);

  CudaModel& model_;
  std::array<Step, 2> steps_;  // they begin in turn
  const size_t max_rows_;
  std::function<absl::Status()> add_draws_;
  size_t newest_ = 0;
  int open_ = 0;  // steps between Begin and Finish
};

}  // namespace baton
