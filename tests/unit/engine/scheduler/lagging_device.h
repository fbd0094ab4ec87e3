// A device as the step runner sees one: it computes what it was given only when somebody waits for
// it, and knows the tokens that it has drawn before anybody else does. Whoever gives a block away,
// or drops what a step needs, before the step is over changes what it computes.
#pragma once

#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "engine/runtime/step_sampler.h"
#include "engine/sampling/sampler.h"
#include "tests/unit/engine/scheduler/history_model.h"

namespace baton {

class LaggingDevice final : public Model, public StepSampler {
 public:
  explicit LaggingDevice(HistoryModel* model)
      : model_(*model), sampler_(model->info().vocab_size) {}

  // Steps that were started before the one in front of them was over.
  int64_t started_ahead = 0;
  bool starts_none_ahead = false;  // else it fails

  const ModelInfo& info() const override { return model_.info(); }
  KvLayout kv_layout() const override { return model_.kv_layout(); }
  // At once where the caller wants to know of layers.
  absl::Status Forward(std::span<const ForwardSequence> batch, const KvRegion& kv,
                       const LayerDoneFn& layer_done, Logits* logits) override;

  void Begin(std::function<absl::Status()> add_draws) override {
    add_draws_ = std::move(add_draws);
  }
  bool on_device() const override { return true; }
  absl::Status Add(int32_t logits_row, const SampleContext& context) override;
  absl::Status AddGiven(int32_t logits_row, TokenId token, int32_t num_logprobs) override;
  absl::StatusOr<std::span<DrawnToken>> Finish(const Logits& logits) override;

 private:
  struct Row {
    ForwardSequence sequence;  // its views are of what follows
    std::vector<TokenId> tokens;
    std::vector<BlockId> block_table;
  };
  struct Draw {
    int32_t logits_row = 0;
    TokenId given = -1;
    int32_t num_logprobs = -1;
    SamplingParams sampling;
    StoppingParams stopping;
    std::vector<TokenId> tokens;
    int32_t prompt_length = 0;
    int32_t sample = 0;
    std::vector<TokenId> eos_tokens;
    int32_t num_unknown = 0;
  };
  struct Step {
    std::vector<Row> rows;
    const KvRegion* kv = nullptr;
    bool computed = false;
    Logits logits;
    std::vector<Draw> draws;
  };
  absl::Status Compute(Step* step, const LayerDoneFn& layer_done);
  absl::StatusOr<DrawnToken> Carry(const Step& step, const Draw& draw);

  HistoryModel& model_;
  Sampler sampler_;
  std::function<absl::Status()> add_draws_;
  std::deque<Step> steps_;         // the oldest first
  std::vector<DrawnToken> drawn_;  // of the last step that was finished
};

}  // namespace baton
