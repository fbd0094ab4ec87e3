// The model graph on the CPU: see decoder_graph.h.
#pragma once

#include <memory>
#include <vector>

#include "engine/kernels/compute_pool.h"
#include "engine/kernels/kernel_table.h"
#include "engine/model/decoder_graph.h"
#include "engine/model/model.h"
#include "engine/model/model_config.h"
#include "engine/model/model_weights.h"
#include "engine/model/shard_exchange.h"
#include "engine/model/step_inputs.h"

namespace baton {

// See Model for thread-safety and batch invariance. Numerics: the residual stream and everything
// between ops is f32; the inputs of matrix products are rounded to the kernels' activation dtype,
// weights and KV are bf16 (f32 in f32 mode; int8 and int4 on request). transformers' bf16 rounds
// after every op instead, so these logits lie nearer to the f32 ones than its own do.
class Transformer final : public Model, private DecoderSteps {
 public:
  struct Parts {
    ModelConfig config;  // of the whole model
    ModelInfo info;      // as well
    KvLayout layout;     // of the shard's heads
    ModelWeights weights;
    std::unique_ptr<ComputePool> pool;
    const KernelTable* kernels = nullptr;  // of the process's life
    OpTimes* op_times = nullptr;           // see ModelOptions
    std::unique_ptr<ShardExchange> ranks;  // null: this is the whole model
  };
  explicit Transformer(Parts parts);

  const ModelInfo& info() const override { return parts_.info; }
  KvLayout kv_layout() const override { return parts_.layout; }
  absl::Status Forward(std::span<const ForwardSequence> batch, const KvRegion& kv,
                       const LayerDoneFn& layer_done, Logits* logits) override;

 private:
  // What Forward was called with, while it runs.
  struct Call {
    const KvRegion* kv = nullptr;
    const LayerDoneFn* layer_done = nullptr;
    Logits* logits = nullptr;
  };

  void Embed() override;
  void ComputeQkv(int32_t layer) override;
  void Attend(int32_t layer) override;
  void FeedForward(int32_t layer) override;
  void ComputeLogits() override;
  absl::Status status() const override;

  void ReserveScratch(int32_t rows);
  void EmbedOfRanks();
  const LayerWeights& Layer(int32_t layer) const {
    return parts_.weights.layers[static_cast<size_t>(layer)];
  }
  KvLayerView Cache(int32_t layer) const;
  void LayerDone(int32_t layer) const;
  // activation = norm(residual), the first `rows` of them
  void Norm(const std::vector<float>& weight, int32_t rows);
  // residual += weights * input
  void AddToResidual(const PackedMatrix& weights, const void* input);
  // Ranks compute some columns of what the next product takes whole.
  bool JoinsInputs() const {
    return parts_.ranks != nullptr && parts_.ranks->shard().split == TensorSplit::kColumns;
  }

  Parts parts_;
  const ModelConfig heads_;  // config with the heads of the shard
  OpContext ops_;
  const std::vector<float> inverse_frequencies_;  // [head_dim / 2]
  const float attention_scale_;

  Call call_;
  // Scratch of one step; grows to the largest step seen.
  StepInputs inputs_;
  AlignedBuffer residual_;            // [rows, hidden] f32
  AlignedBuffer activation_;          // [rows, max(hidden, q)], input of a matrix product
  AlignedBuffer qkv_;                 // [rows, q + k + v] f32
  AlignedBuffer gated_;               // [rows, intermediate], input of the down product
  AlignedBuffer quantized_;           // the input of a product with quantized weights, quantized
  AlignedBuffer attention_partials_;  // of rows whose attention several threads share
  AlignedBuffer cosines_;             // [rows, head_dim / 2] f32
  AlignedBuffer sines_;               // [rows, head_dim / 2] f32
  // Of a shard only.
  AlignedBuffer columns_;            // [rows, max(q, intermediate) of the shard], some of an input
  AlignedBuffer product_;            // [rows, width of a product] f32, before ranks join it
  AlignedBuffer joined_;             // [rows, hidden] f32
  std::vector<TokenId> own_tokens_;  // those of the step that the shard's embedding has
};

}  // namespace baton
