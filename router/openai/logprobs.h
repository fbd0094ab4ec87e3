// The two log-probability formats. Internal to router/openai.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "engine/tokenizer/tokenizer.h"
#include "router/completion_service.h"

namespace baton {

// The legacy format: {"tokens":[…],"token_logprobs":[…],"top_logprobs":[…],"text_offset":[…]}.
// `prompt` comes first; its first token has no log-probability and shows null. `text_offset` is
// where the first token starts, in characters, and is moved behind the last.
void AppendCompletionLogprobs(std::span<const OutputToken> prompt,
                              std::span<const OutputToken> tokens, int64_t& text_offset,
                              std::string& out);

// {"content":[{"token":…,"logprob":…,"bytes":[…],"top_logprobs":[…]}]}
void AppendChatLogprobs(std::span<const OutputToken> tokens, const Tokenizer& tokenizer,
                        std::string& out);

}  // namespace baton
