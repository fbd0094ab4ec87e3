// Draws the tokens of a step where its logits are: on the host, or on a device.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"
#include "engine/model/model.h"
#include "engine/sampling/sampler.h"

namespace baton {

// Every step: Begin, Model::Forward, Finish. A device's next step may begin before Finish, which is
// the older one's then; its rows may take what that one draws (ForwardSequence::draw), if it has no
// more draws than fit one turn. Not thread-safe.
class StepSampler {
 public:
  virtual ~StepSampler() = default;

  // `add_draws` calls Add and AddGiven for all draws of the step. It is called once: by a device's
  // while Forward runs, as soon as the logits are on their way, else by Finish.
  virtual void Begin(std::function<absl::Status()> add_draws) = 0;
  // A device draws, beside the caller.
  virtual bool on_device() const = 0;

  // A token to draw from row `logits_row` of the step, see Sampler::Draw. What `context` refers to
  // lives until Finish returns; of a step whose draws fit one turn, until Forward does.
  virtual absl::Status Add(int32_t logits_row, const SampleContext& context) = 0;
  // A token that is known, to be scored as by Sampler::Score.
  virtual absl::Status AddGiven(int32_t logits_row, TokenId token, int32_t num_logprobs) = 0;

  // What was drawn, in the order in which it was added; until the next Begin. INTERNAL: broken
  // logits, of which no token is drawn.
  virtual absl::StatusOr<std::span<DrawnToken>> Finish(const Logits& logits) = 0;
};

class HostStepSampler final : public StepSampler {
 public:
  explicit HostStepSampler(int32_t vocab_size) : sampler_(vocab_size) {}

  void Begin(std::function<absl::Status()> add_draws) override {
    add_draws_ = std::move(add_draws);
  }
  bool on_device() const override { return false; }
  absl::Status Add(int32_t logits_row, const SampleContext& context) override;
  absl::Status AddGiven(int32_t logits_row, TokenId token, int32_t num_logprobs) override;
  absl::StatusOr<std::span<DrawnToken>> Finish(const Logits& logits) override;

 private:
  Sampler sampler_;
  std::function<absl::Status()> add_draws_;
  const Logits* logits_ = nullptr;  // while Finish runs
  std::vector<DrawnToken> drawn_;
};

}  // namespace baton
