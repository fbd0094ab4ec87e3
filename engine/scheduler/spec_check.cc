#include "engine/scheduler/spec_check.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/kv_layout.h"
#include "common/strings.h"

namespace baton {

namespace {

// Larger values would only overflow; clients are bounded far below by the router.
constexpr float kMaxLogitShift = 1e6f;

absl::Status CheckRange(std::string_view field, float value, float low, float high) {
  if (value >= low && value <= high) return absl::OkStatus();  // false for NaN
  return absl::InvalidArgumentError(
      absl::StrCat(View(field), " is ", value, ", must be in [", low, ", ", high, "]"));
}

absl::Status CheckAtLeast(std::string_view field, int64_t value, int64_t low) {
  if (value >= low) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(View(field), " is ", value, ", must be at least ", low));
}

absl::Status CheckSampling(const SamplingParams& sampling) {
  constexpr float kSmallest = std::numeric_limits<float>::min();
  RETURN_IF_ERROR(CheckRange("temperature", sampling.temperature, 0, kMaxLogitShift));
  RETURN_IF_ERROR(CheckRange("top_p", sampling.top_p, kSmallest, 1));
  RETURN_IF_ERROR(CheckRange("min_p", sampling.min_p, 0, 1));
  RETURN_IF_ERROR(CheckAtLeast("top_k", sampling.top_k, 0));
  RETURN_IF_ERROR(
      CheckRange("presence_penalty", sampling.presence_penalty, -kMaxLogitShift, kMaxLogitShift));
  RETURN_IF_ERROR(
      CheckRange("frequency_penalty", sampling.frequency_penalty, -kMaxLogitShift, kMaxLogitShift));
  RETURN_IF_ERROR(
      CheckRange("repetition_penalty", sampling.repetition_penalty, 1e-6f, kMaxLogitShift));
  RETURN_IF_ERROR(CheckAtLeast("num_logprobs", sampling.num_logprobs, -1));
  RETURN_IF_ERROR(CheckAtLeast("num_prompt_logprobs", sampling.num_prompt_logprobs, -1));
  for (const auto& [token, bias] : sampling.logit_bias) {
    RETURN_IF_ERROR(
        CheckRange(absl::StrCat("logit_bias[", token, "]"), bias, -kMaxLogitShift, kMaxLogitShift));
  }
  return absl::OkStatus();
}

absl::Status CheckTokens(const GenerationSpec& spec, const SchedulerOptions& options) {
  const auto num_tokens = static_cast<int64_t>(spec.tokens.size());
  if (num_tokens >= options.max_model_len) {
    return absl::InvalidArgumentError(absl::StrCat(
        "maximum context length is ", options.max_model_len, " tokens, the prompt has ", num_tokens,
        " and at least one must be left to generate"));
  }
  RETURN_IF_ERROR(CheckAtLeast("prompt_length", spec.prompt_length, 1));
  if (spec.prompt_length > num_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt_length is ", spec.prompt_length, " of ", num_tokens, " tokens"));
  }
  if (options.vocab_size == 0) return absl::OkStatus();
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    if (spec.tokens[i] < 0 || spec.tokens[i] >= options.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("tokens[", i, "] is ", spec.tokens[i],
                                                     ", the vocabulary has ", options.vocab_size));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSpec(const GenerationSpec& spec, const SchedulerOptions& options) {
  RETURN_IF_ERROR(CheckTokens(spec, options));
  RETURN_IF_ERROR(CheckAtLeast("num_samples", spec.num_samples, 1));
  RETURN_IF_ERROR(CheckAtLeast("first_sample", spec.first_sample, 0));
  const auto num_tokens = static_cast<int32_t>(spec.tokens.size());
  const int32_t emitted = num_tokens - spec.prompt_length;
  if (emitted > 0 && spec.num_samples != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_samples is ", spec.num_samples, ", a resumed sequence has 1"));
  }
  RETURN_IF_ERROR(CheckAtLeast("max_tokens", spec.stopping.max_tokens, int64_t{emitted} + 1));
  RETURN_IF_ERROR(CheckAtLeast("min_tokens", spec.stopping.min_tokens, 0));
  RETURN_IF_ERROR(CheckSampling(spec.sampling));
  const int32_t blocks = BlocksForTokens(num_tokens, options.block_size);
  if (blocks > options.num_blocks) {
    return absl::InvalidArgumentError(
        absl::StrCat("the prompt needs ", blocks, " KV blocks, the pool has ", options.num_blocks));
  }
  return absl::OkStatus();
}

}  // namespace baton
