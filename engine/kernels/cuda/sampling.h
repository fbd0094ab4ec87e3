// Draws the next tokens of a batch from logits on the device: what engine/sampling/sampler.h does,
// one thread block a row. See sampler.h here for the host's side of it.
//
// Weights are the CPU's, bit for bit, and so are the sums where top_k and top_p are off. Otherwise
// sums of doubles are taken in another order than on the CPU, though always in the same one: a draw
// or the end of top_p's mass could fall on another token only where it lies within 1e-15 of the
// border between two. Log-probabilities agree to the last bit but one.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/ids.h"
#include "common/request.h"
#include "engine/kernels/cuda/context.h"

namespace baton {

inline constexpr int32_t kMaxSampledVocab = 1 << 20;
inline constexpr int32_t kMaxTopLogprobs = 1024;

struct TokenBias {
  TokenId token = 0;
  float bias = 0.0f;
};

// What one row needs of SampleContext. All token ids are in [0, vocab_size).
struct CudaSampleRow {
  int32_t logits_row = 0;
  uint64_t seed = 0;
  int32_t sample = 0;
  int32_t index = 0;          // of the token that is drawn
  TokenId given = -1;         // not drawn but given: only its log-probabilities are wanted
  int32_t num_logprobs = -1;  // as in SamplingParams, at most kMaxTopLogprobs
  float scale = 0.0f;         // 1 / temperature; 0: the most likely token
  float top_p = 1.0f;
  float min_p = 0.0f;
  int32_t top_k = 0;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  float repetition_penalty = 1.0f;
  int32_t bias_begin = 0;  // [bias_begin, bias_end) of CudaSamplingArgs::biases, added in order
  int32_t bias_end = 0;
  int32_t masked_begin = 0;  // of `masked`: cannot be drawn
  int32_t masked_end = 0;
  int32_t history_begin = 0;  // of `history`: the prompt, for penalties; empty where there are none
  int32_t outputs_begin = 0;  // where in `history` the outputs begin
  int32_t history_end = 0;
};

enum class CudaDraw : int32_t {
  kDrawn = 0,
  kNotFinite = 1,  // `token` is the first whose logit is NaN or +inf, `logprob` the logit
  kNothing = 2,    // all logits are -inf
};
struct CudaDrawnToken {
  CudaDraw result = CudaDraw::kDrawn;
  TokenId token = 0;
  float logprob = 0.0f;  // 0 unless num_logprobs >= 0
};

struct CudaSamplingArgs {
  const float* logits = nullptr;         // [logits rows, vocab_size] f32, device
  const CudaSampleRow* rows = nullptr;   // [rows], device
  const TokenBias* biases = nullptr;     // device
  const TokenId* masked = nullptr;       // device
  const TokenId* history = nullptr;      // device
  CudaDrawnToken* drawn = nullptr;       // [rows], device
  TokenLogprob* top_logprobs = nullptr;  // [rows, max_logprobs], device, most likely first
  std::byte* scratch = nullptr;          // SamplingScratchBytes, device, aligned to 16
  int32_t num_rows = 0;
  int32_t vocab_size = 0;    // at most kMaxSampledVocab
  int32_t max_logprobs = 0;  // at least each row's num_logprobs, but no more than vocab_size
};

void SampleTokens(const CudaContext& context, const CudaSamplingArgs& args);
size_t SamplingScratchBytes(int32_t num_rows, int32_t vocab_size);

// A step that runs before the host knows what the one before it has drawn takes it from there.
struct TakeDrawnArgs {
  const CudaDrawnToken* drawn = nullptr;  // of the step before, device
  const int32_t* draws = nullptr;         // [rows], device: of `drawn`; -1: the token stays
  TokenId* tokens = nullptr;              // [rows], device
  int32_t rows = 0;
};

// Where nothing could be drawn the token is 0: the host has not seen the error yet.
void TakeDrawnTokens(const CudaContext& context, const TakeDrawnArgs& args);

}  // namespace baton
