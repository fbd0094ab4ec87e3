// The host's side of sampling on the device: gathers a step's rows, starts SampleTokens, and hands
// out what was drawn.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kernels/cuda/sampling.h"
#include "engine/sampling/sampler.h"

namespace baton {

// One step: Clear, Add or AddGiven each row, Start, the context's Synchronize, Take each row. Not
// thread-safe; the context outlives it.
class CudaSampler {
 public:
  // INVALID_ARGUMENT: `vocab_size` is above kMaxSampledVocab. RESOURCE_EXHAUSTED: too little
  // memory.
  static absl::StatusOr<CudaSampler> Create(const CudaContext& context, int32_t max_rows,
                                            int32_t vocab_size);

  void Clear();
  int32_t num_rows() const { return static_cast<int32_t>(rows_.size()); }
  // A row that is drawn from, as by Sampler::Draw. INVALID_ARGUMENT: more log-probabilities than
  // kMaxTopLogprobs. REQUIRES: num_rows() < max_rows.
  absl::Status Add(const SampleContext& context);
  // A row whose token is known, as by Sampler::Score.
  absl::Status AddGiven(TokenId token, int32_t num_logprobs);

  // Enqueues the draws of all rows. `logits`: [num_rows(), vocab_size] f32, device.
  absl::Status Start(const float* logits);
  // What was drawn for `row`, or INTERNAL for broken logits.
  absl::StatusOr<DrawnToken> Take(int32_t row) const;

 private:
  explicit CudaSampler(const CudaContext& context) : context_(&context) {}
  absl::Status AddRow(const CudaSampleRow& row);
  absl::Status UploadRows();

  const CudaContext* context_;
  int32_t max_rows_ = 0;
  int32_t vocab_size_ = 0;
  int32_t max_logprobs_ = 0;  // of the rows
  std::vector<CudaSampleRow> rows_;
  std::vector<TokenBias> biases_;
  std::vector<TokenId> masked_;
  std::vector<TokenId> history_;
  DeviceArray<CudaSampleRow> device_rows_;  // [max_rows]
  DeviceArray<TokenBias> device_biases_;    // grows, as the next two
  DeviceArray<TokenId> device_masked_;
  DeviceArray<TokenId> device_history_;
  DeviceArray<std::byte> scratch_;
  DeviceArray<CudaDrawnToken> device_drawn_;  // [max_rows]
  PinnedArray<CudaDrawnToken> drawn_;         // [max_rows]
  DeviceArray<TokenLogprob> device_top_;      // [max_rows, max_logprobs_], grows
  PinnedArray<TokenLogprob> top_;
};

}  // namespace baton
