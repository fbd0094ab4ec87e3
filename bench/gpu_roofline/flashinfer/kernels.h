// FlashInfer's attention kernels for a paged cache in bf16, behind an interface that needs none of
// its headers. Not part of Baton but a peer of ours, built only where tools/flashinfer_peer.sh has
// fetched it. Its exceptions end here.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/context.h"

namespace baton::roofline {

// Sequences that are all alike: what a schedule depends on.
struct FlashInferBatch {
  int32_t sequences = 0;
  int32_t tokens = 0;     // of each, its last ones
  int32_t positions = 0;  // of each, with those
  int32_t heads = 0, kv_heads = 0, head_dim = 0;
  int32_t page_size = 0;  // tokens

  int32_t rows() const { return sequences * tokens; }
  int32_t pages_per_sequence() const { return (positions + page_size - 1) / page_size; }
};

// All in device memory.
struct FlashInferArgs {
  const Bf16* queries = nullptr;   // [rows, heads, head_dim], rows `query_stride` apart
  int64_t query_stride = 0;        // numbers
  const Bf16* keys = nullptr;      // [pages, kv_heads, page_size, head_dim], `page_stride` apart
  const Bf16* values = nullptr;    // as keys
  int64_t page_stride = 0;         // numbers
  const int32_t* pages = nullptr;  // [sequences, pages_per_sequence], ids
  Bf16* output = nullptr;          // [rows, heads, head_dim]
  float scale = 0;                 // of the scores
};

// A kernel with its schedule for one batch, which was planned for exactly its lengths: less general
// than what a server replays, and faster if anything.
class FlashInferKernel {
 public:
  virtual ~FlashInferKernel() = default;
  // Enqueues it, and what merges its parts. INTERNAL: what FlashInfer or CUDA said; the context
  // does not keep it.
  virtual absl::Status Run(const CudaContext& context, const FlashInferArgs& args) const = 0;
};
using PlannedFlashInfer = absl::StatusOr<std::unique_ptr<FlashInferKernel>>;

// There are those for 64, 128 and 256, each in a file of its own: instance.cu.in.
// One token a sequence, on CUDA cores, split over the keys.
template <int32_t kHeadDim>
PlannedFlashInfer PlanCudaCores(const CudaContext& context, const FlashInferBatch& batch);
// Any number of tokens, causal, by mma.sync, as FlashAttention-2, split over the keys where the
// scheduler says so.
template <int32_t kHeadDim>
PlannedFlashInfer PlanFa2(const CudaContext& context, const FlashInferBatch& batch);
// Any number of tokens, causal, by wgmma, as FlashAttention-3: for compute capability 9.0 alone.
template <int32_t kHeadDim>
PlannedFlashInfer PlanFa3(const CudaContext& context, const FlashInferBatch& batch);

}  // namespace baton::roofline
