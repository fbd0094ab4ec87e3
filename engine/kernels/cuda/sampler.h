// The host's side of sampling on the device: gathers a step's rows, starts SampleTokens, and hands
// out what was drawn.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kernels/cuda/sampling.h"
#include "engine/sampling/sampler.h"

namespace baton {

// One step: Clear, Add or AddGiven each row, Start, wait until the device has come so far, Take
// each row. Not thread-safe; the context outlives it.
class CudaSampler {
 public:
  // INVALID_ARGUMENT: `vocab_size` is above kMaxSampledVocab. RESOURCE_EXHAUSTED: too little
  // memory.
  static absl::StatusOr<CudaSampler> Create(const CudaContext& context, int32_t max_rows,
                                            int32_t vocab_size);
  // Another one for the same rows and the same stream, whose steps may be open beside `other`'s:
  // they share the scratch.
  static absl::StatusOr<CudaSampler> CreateBeside(const CudaSampler& other);

  void Clear();
  // What it holds on the device for rows without log-probabilities, the scratch included.
  int64_t device_bytes() const { return static_cast<int64_t>(scratch_->bytes()) + drawn_bytes(); }
  int64_t drawn_bytes() const { return static_cast<int64_t>(device_drawn_.bytes()); }
  int32_t num_rows() const { return static_cast<int32_t>(rows_.size()); }
  // Another draw: from row `logits_row` of the logits, as by Sampler::Draw. INVALID_ARGUMENT: more
  // log-probabilities than kMaxTopLogprobs. REQUIRES: num_rows() < max_rows.
  absl::Status Add(int32_t logits_row, const SampleContext& context);
  // One whose token is known, as by Sampler::Score.
  absl::Status AddGiven(int32_t logits_row, TokenId token, int32_t num_logprobs);

  // Enqueues the draws of all rows. `logits`: [logits rows, vocab_size] f32, device.
  absl::Status Start(const float* logits);
  // Where they will be: [num_rows()], device, until the next Start.
  const CudaDrawnToken* drawn() const { return device_drawn_.data(); }
  // What was drawn for `row`, or INTERNAL for broken logits.
  absl::StatusOr<DrawnToken> Take(int32_t row) const;

 private:
  CudaSampler(const CudaContext& context, int32_t max_rows, int32_t vocab_size,
              std::shared_ptr<DeviceArray<std::byte>> scratch)
      : context_(&context),
        max_rows_(max_rows),
        vocab_size_(vocab_size),
        scratch_(std::move(scratch)) {}
  absl::Status Allocate();
  absl::Status AddRow(const CudaSampleRow& row);
  // Where each array of a step's inputs starts, in bytes; and where all of them end.
  struct Offsets {
    size_t rows = 0;
    size_t biases = 0;
    size_t masked = 0;
    size_t history = 0;
    size_t end = 0;
  };
  Offsets LayOut() const;
  // Through pinned memory, at once.
  absl::Status UploadInputs(const Offsets& offsets);
  absl::Status ReserveTop();

  const CudaContext* context_;
  int32_t max_rows_ = 0;
  int32_t vocab_size_ = 0;
  int32_t max_logprobs_ = 0;  // of the rows
  std::vector<CudaSampleRow> rows_;
  std::vector<TokenBias> biases_;
  std::vector<TokenId> masked_;
  std::vector<TokenId> history_;
  PinnedArray<std::byte> staging_;  // of the inputs; grows
  DeviceArray<std::byte> inputs_;   // as long
  std::shared_ptr<DeviceArray<std::byte>> scratch_;
  DeviceArray<CudaDrawnToken> device_drawn_;  // [max_rows]
  PinnedArray<CudaDrawnToken> drawn_;         // [max_rows]
  DeviceArray<TokenLogprob> device_top_;      // [max_rows, max_logprobs_], grows
  PinnedArray<TokenLogprob> top_;
};

}  // namespace baton
