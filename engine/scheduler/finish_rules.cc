#include "engine/scheduler/finish_rules.h"

#include <algorithm>

namespace baton {

bool IsFullLength(const GenerationSpec& spec, const SchedulerOptions& options,
                  int32_t output_tokens, int32_t num_tokens) {
  return output_tokens >= spec.stopping.max_tokens || num_tokens >= options.max_model_len;
}

std::optional<SampleFinish> FinishOf(const GenerationSpec& spec, const SchedulerOptions& options,
                                     const TokenOutput& output, int32_t num_tokens) {
  const StoppingParams& stopping = spec.stopping;
  SampleFinish finish{.sample = output.sample, .output_tokens = output.index + 1};
  const auto among = [&](const std::vector<TokenId>& tokens) {
    return std::ranges::find(tokens, output.token) != tokens.end();
  };
  const bool stops =
      (!stopping.ignore_eos && among(options.eos_tokens)) || among(stopping.stop_token_ids);
  if (stops && finish.output_tokens > stopping.min_tokens) {
    finish.reason = FinishReason::kStop;
    finish.stop_token = output.token;
    return finish;
  }
  if (IsFullLength(spec, options, finish.output_tokens, num_tokens)) {
    finish.reason = FinishReason::kLength;
    return finish;
  }
  return std::nullopt;
}

}  // namespace baton
