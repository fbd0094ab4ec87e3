#include "router/front/context.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baton {
namespace {

ContextAnswer Refuse(std::string param, std::string message) {
  return ContextAnswer{FieldError{std::move(param), std::move(message), /*context_length=*/true}};
}

}  // namespace

ContextAnswer FitContext(const ContextQuestion& question) {
  const int64_t limit = question.max_model_len;
  const std::string limit_text =
      absl::StrCat("This model's maximum context length is ", limit, " tokens. ");
  if (question.prompt_tokens >= limit) {
    return Refuse("prompt",
                  absl::StrCat(limit_text, "However, your prompt has ", question.prompt_tokens,
                               " tokens, which leaves no room for an answer."));
  }
  const int64_t left = limit - question.prompt_tokens;
  if (!question.max_tokens.has_value()) {
    const int64_t wanted = question.default_tokens.value_or(left);
    return ContextAnswer{std::nullopt, static_cast<int32_t>(std::min(wanted, left))};
  }
  if (*question.max_tokens > left) {
    return Refuse(
        question.max_tokens_param,
        absl::StrCat(limit_text, "However, you requested ",
                     question.prompt_tokens + *question.max_tokens, " tokens (",
                     question.prompt_tokens, " in the prompt, ", *question.max_tokens,
                     " in the completion). Please shorten the prompt or the completion."));
  }
  return ContextAnswer{std::nullopt, static_cast<int32_t>(*question.max_tokens)};
}

}  // namespace baton
