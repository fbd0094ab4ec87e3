// Draws the next token from a row of logits: a pure function of its arguments, bit for bit the same
// on every worker and in every batch.
//
// In this order, which is vLLM's: logit_bias, then EOS and stop tokens masked among the first
// min_tokens outputs, then repetition, frequency and presence penalties; a temperature below 1e-5
// takes the most likely token (the lowest id among equals); otherwise temperature, min_p, top_k,
// top_p, and a draw by inverse cumulative distribution from UniformAt(seed, sample, index).
// Log-probabilities are those of the model's raw distribution, before all of this.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/request.h"
#include "engine/sampling/select_top.h"

namespace baton {

// Below this a division by the temperature could overflow, and the draw is greedy anyway.
inline constexpr float kGreedyTemperature = 1e-5f;

struct SampleContext {
  const SamplingParams& sampling;
  const StoppingParams& stopping;
  std::span<const TokenId> tokens;  // prompt, then outputs; the drawn token comes next
  int32_t prompt_length = 0;
  int32_t sample = 0;
  std::span<const TokenId> eos_tokens;
  // Tokens behind `tokens` that a device has drawn and nobody else knows yet. Not with penalties.
  int32_t num_unknown = 0;

  int32_t index() const {
    return static_cast<int32_t>(tokens.size()) + num_unknown - prompt_length;
  }
  bool MasksStopTokens() const { return index() < stopping.min_tokens; }
};

struct DrawnToken {
  TokenId token = 0;
  float logprob = 0;                       // 0 unless num_logprobs >= 0
  std::vector<TokenLogprob> top_logprobs;  // [num_logprobs], most likely first
};

// Holds scratch only: results never depend on what was drawn before. Not thread-safe.
class Sampler {
 public:
  explicit Sampler(int32_t vocab_size);

  // `logits`: [vocab_size] f32. INTERNAL: a NaN or +inf among them, or all are -inf; no token is
  // drawn from a broken row. If bias and masks forbid every token, they are not applied.
  absl::StatusOr<DrawnToken> Draw(std::span<const float> logits, const SampleContext& context);

  // The log-probability of a given `token` and the `num_logprobs` most likely. INTERNAL as above.
  absl::StatusOr<DrawnToken> Score(std::span<const float> logits, TokenId token,
                                   int32_t num_logprobs);

 private:
  // `logits` after bias, masks and penalties; a view of `logits` itself where nothing applies.
  std::span<const float> Adjusted(std::span<const float> logits, const SampleContext& context);
  void ApplyPenalties(const SampleContext& context);
  // `max`: the largest of `logits`.
  TokenId DrawFrom(std::span<const float> logits, float max, const SampleContext& context);
  TokenId DrawFromWeights(double uniform);  // from weights_
  TokenId DrawFromTop(double uniform);      // from top_, whose values are weights
  void FillLogprobs(std::span<const float> logits, float max, int32_t num_logprobs,
                    DrawnToken* drawn);

  const int32_t vocab_size_;
  std::vector<float> adjusted_;         // [vocab_size]
  std::vector<float> weights_;          // [vocab_size], of the most likely token 1
  std::vector<int32_t> output_counts_;  // [vocab_size], all 0 between calls
  std::vector<uint8_t> seen_;           // [vocab_size], all 0 between calls
  std::vector<double> chunk_sums_;
  std::vector<Candidate> top_;
};

}  // namespace baton
