// What a request asks of an engine and what comes back, in token terms: no text, no JSON, no
// protobuf. The router fills these; workers and engines consume them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/ids.h"

namespace baton {

// How the next token is drawn. All randomness is counter-based: token `i` of sample `s` uses
// (seed, s, i) and nothing else, so the same request gives the same tokens on any worker.
struct SamplingParams {
  float temperature = 1.0f;         // 0 means greedy
  float top_p = 1.0f;               // (0, 1]
  float min_p = 0.0f;               // [0, 1]
  int32_t top_k = 0;                // 0 means off
  float presence_penalty = 0.0f;    // over output tokens, as OpenAI defines it
  float frequency_penalty = 0.0f;   // over output tokens
  float repetition_penalty = 1.0f;  // over prompt and output tokens, as Hugging Face defines it
  uint64_t seed = 0;                // always set: the router draws one if the client gave none
  std::vector<std::pair<TokenId, float>> logit_bias;
  int32_t num_logprobs = -1;         // -1 none, 0 the chosen token only, k also the k most likely
  int32_t num_prompt_logprobs = -1;  // the same for prompt tokens (OpenAI `echo` with `logprobs`)

  friend bool operator==(const SamplingParams&, const SamplingParams&) = default;
};

// A draw depends on all tokens before it.
bool HasPenalties(const SamplingParams& sampling);

// When the engine ends a sample. Stop strings are the router's business: it sees text.
struct StoppingParams {
  int32_t max_tokens = 16;  // output tokens per sample, counted from the prompt's end
  int32_t min_tokens = 0;   // until then EOS and stop tokens cannot be drawn
  bool ignore_eos = false;
  std::vector<TokenId> stop_token_ids;  // besides the model's own EOS tokens

  friend bool operator==(const StoppingParams&, const StoppingParams&) = default;
};

// One prompt and its samples. Immutable once dispatched.
struct GenerationSpec {
  // [prompt_length] prompt tokens, then any output already emitted to the client when an attempt
  // resumes (only with num_samples = 1). Output token `i` has index i counted from the prompt's
  // end.
  std::vector<TokenId> tokens;
  int32_t prompt_length = 0;
  int32_t num_samples = 1;
  // Index of the first sample: a resumed sample of an n > 1 request keeps its own random stream.
  int32_t first_sample = 0;
  SamplingParams sampling;
  StoppingParams stopping;
  uint64_t cache_salt = 0;  // prefix-cache keys of different salts never match
};

enum class FinishReason { kStop, kLength, kAborted };
std::string_view FinishReasonName(FinishReason reason);  // "stop", "length", "abort"

struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0.0f;
};

// One generated token. (request, sample, index) is its identity on every wire.
struct TokenOutput {
  int32_t sample = 0;
  int32_t index = 0;  // 0 is the first output token
  TokenId token = 0;
  // Filled when num_logprobs >= 0.
  float logprob = 0.0f;
  std::vector<TokenLogprob> top_logprobs;  // most likely first
};

// How a sample ended. `stop_token` is the token that ended it (not among the client's text unless
// asked for), or -1.
struct SampleFinish {
  int32_t sample = 0;
  FinishReason reason = FinishReason::kStop;
  TokenId stop_token = -1;
  int32_t output_tokens = 0;
};

}  // namespace baton
