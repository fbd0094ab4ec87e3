// The model graph on a CUDA device: see decoder_graph.h.
//
// Forward lays out the batch on the host, enqueues all of the step, and only then waits: for each
// layer's KV where somebody wants to know of it, and for the end of a step on rank 0 whose logits
// come to the host, or that has none. What is enqueued depends on device addresses and on
// CudaStepShape alone, so that decode steps can be graphs.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/attention.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/copy_rows.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kernels/cuda/event.h"
#include "engine/kernels/cuda/linear.h"
#include "engine/kernels/cuda/timer.h"
#include "engine/model/cuda/cuda_communicator.h"
#include "engine/model/cuda/cuda_model.h"
#include "engine/model/cuda/cuda_step.h"
#include "engine/model/cuda/cuda_weights.h"
#include "engine/model/cuda/decode_graphs.h"
#include "engine/model/decoder_graph.h"
#include "engine/model/model_config.h"
#include "engine/model/model_shard.h"
#include "engine/model/step_inputs.h"

namespace baton {

// See LoadCudaModel for numerics and batch invariance. After an error of the device every call
// returns it.
class CudaTransformer final : public CudaModel, private DecoderSteps {
 public:
  struct Parts {
    std::unique_ptr<CudaContext> context;  // of all that follows
    ModelConfig config;                    // of the whole model
    ModelInfo info;                        // as well
    KvLayout layout;                       // of the shard's heads
    CudaModelWeights weights;              // of the shard
    ModelShard shard;
    std::unique_ptr<CudaCommunicator> ranks;  // null: this is the whole model
    CudaStepLimits limits;
    size_t attention_scratch_bytes = 0;  // at most, but for one sequence; see CudaModelOptions
    bool batch_invariant = false;
    bool tune_products = false;
    bool use_graphs = false;
    bool prefers_wgmma = false;
    bool dependent_launch = false;
    bool logits_stay = false;
    CudaStepTimes* step_times = nullptr;  // may be null
  };
  // RESOURCE_EXHAUSTED: no room for a step's scratch.
  static absl::StatusOr<std::unique_ptr<CudaTransformer>> Create(Parts parts);

  const ModelInfo& info() const override { return parts_.info; }
  KvLayout kv_layout() const override { return parts_.layout; }
  absl::Status Forward(std::span<const ForwardSequence> batch, const KvRegion& kv,
                       const LayerDoneFn& layer_done, Logits* logits) override;
  // Starts a step without sequences in each bucket of decode steps, twice: the second is captured.
  absl::StatusOr<int32_t> WarmUp(int32_t max_sequences, const KvRegion& kv) override;
  // Returns when they are done.
  absl::Status CopyBlocks(std::span<const KvBlockCopy> copies, const KvRegion& kv) override;

  absl::Status Health() override { return context().Poll(); }

  const CudaContext& context() const override { return *parts_.context; }
  int64_t device_bytes() const override;
  void UseLogits(LogitsFn use) override { use_logits_ = std::move(use); }
  void TakeTokensFrom(const CudaDrawnToken* drawn) override { drawn_before_ = drawn; }

 private:
  // What the enqueued steps take from Forward.
  struct Step {
    CudaStepShape shape;
    CudaStepPointers inputs;
    bool as_graph = false;  // it is captured, or will be: no events then
    const KvRegion* kv = nullptr;
  };

  CudaTransformer(Parts parts, CudaStepInputs step_inputs);

  void Embed() override;
  void ComputeQkv(int32_t layer) override;
  void Attend(int32_t layer) override;
  void FeedForward(int32_t layer) override;
  void ComputeLogits() override;
  absl::Status status() const override { return parts_.context->status(); }

  const CudaLayerWeights& Layer(int32_t layer) const {
    return parts_.weights.layers[static_cast<size_t>(layer)];
  }
  static size_t Product(int32_t a, int32_t b) {
    return static_cast<size_t>(a) * static_cast<size_t>(b);
  }
  absl::Status AllocateScratch();
  template <typename T>
  absl::Status Allocate(size_t size, DeviceArray<T>* array);
  absl::Status ReserveForProducts();
  absl::Status TuneProducts();
  // A product of norm(input), in the form that it takes.
  void RunNormed(const float* input, const DeviceArray<float>& weight, CudaLinearArgs product);
  bool IsWhole() const { return parts_.ranks == nullptr; }
  bool LeadsRanks() const { return parts_.shard.rank == 0; }
  // All ranks have the same residual: the first adds its product to it, the others put theirs in
  // its place, and the sum of all is the new one.
  CudaEpilogue IntoResidual() const {
    return LeadsRanks() ? CudaEpilogue::kAddToF32 : CudaEpilogue::kStoreF32;
  }
  CudaEpilogue GateUpEpilogue() const;
  // A product that goes into the residual; SumResidualOfRanks is to follow it.
  CudaLinearArgs ResidualProduct(const CudaMatrix& weights, const Bf16* input);
  void SumResidualOfRanks();
  // Puts draws of the step before among the inputs.
  void TakeDraws();
  void KvIsFinal(int32_t layer);
  // Those of all ranks as rows of the whole vocabulary; rank 0's.
  void OrderLogits();
  const DeviceArray<float>& WholeLogits() const { return IsWhole() ? logits_ : ordered_logits_; }
  void AttendToDecodeRows(CudaAttentionArgs args);
  absl::Status CheckRegion(const KvRegion& kv) const;
  // All of a step.
  absl::Status EnqueueTimed(const KvRegion& kv, absl::Time begin);
  absl::Status Enqueue(const KvRegion& kv);
  absl::Status EnqueueAs(const CudaStepShape& shape, bool as_graph, const KvRegion& kv);
  // What has to be waited for once a step is enqueued.
  absl::Status Finish(const LayerDoneFn& layer_done, Logits* logits);
  absl::Status TellLayers(const LayerDoneFn& layer_done);
  void CopyApart(std::span<const KvBlockCopy> copies, const KvRegion& kv);

  Parts parts_;
  const ModelConfig heads_;  // the config with the heads of the shard
  const int32_t inner_;      // of intermediate_size, the shard's
  CudaLinear linear_;
  StepInputs rows_;
  CudaStepInputs step_inputs_;
  Step step_;  // while Forward runs
  LogitsFn use_logits_;
  const CudaDrawnToken* drawn_before_ = nullptr;  // device; of the step before
  int64_t scratch_bytes_ = 0;                     // of the device
  DecodeGraphs graphs_;
  CudaTimer timer_;                         // of a step, if step_times are asked for
  std::vector<CudaEvent> kv_written_;       // [num_layers]
  DeviceArray<float> inverse_frequencies_;  // [head_dim / 2]
  const float attention_scale_;

  // Scratch of one step. R: limits.max_rows, L: limits.max_logit_rows. q, k, v, intermediate and,
  // of what is not joined, vocab are the shard's.
  DeviceArray<float> residual_;               // [R, hidden]
  DeviceArray<Bf16> activation_;              // [R, max(hidden, q)]: attention, or a norm for bf16
  DeviceArray<Bf16> qkv_;                     // [R, q + k + v]
  DeviceArray<Bf16> gate_up_;                 // [R, intermediate, 2 (gate, up)], or none
  DeviceArray<Bf16> gated_;                   // [R, intermediate], for a product of bf16
  DeviceArray<float> logit_residual_;         // [L, hidden]
  DeviceArray<float> logits_;                 // [L, vocab]
  DeviceArray<float> joined_logits_;          // [ranks, logit rows of the step, vocab / ranks]
  DeviceArray<float> ordered_logits_;         // [L, whole vocab]; rank 0's of several
  PinnedArray<float> host_logits_;            // [L, whole vocab]; rank 0's, unless they stay
  DeviceArray<std::byte> attention_scratch_;  // of one DecodeAttention
  // Of CopyBlocks.
  DeviceArray<std::byte*> layer_bases_;    // [num_layers]
  DeviceArray<KvBlockCopy> block_copies_;  // [kCopiesAtOnce]
  static constexpr size_t kCopiesAtOnce = 256;
};

}  // namespace baton
