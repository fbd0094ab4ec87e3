// POST /tokenize and /detokenize, as vLLM defines them. Pure.
#pragma once

#include <string>
#include <string_view>

#include "router/openai/request.h"

namespace baton {

// {"prompt":…} or {"messages":…} → {"count","max_model_len","tokens","token_strs"}
ApiResult<std::string> Tokenize(std::string_view body, const ParseContext& context);
// {"tokens":[…]} → {"prompt"}
ApiResult<std::string> Detokenize(std::string_view body, const ParseContext& context);

}  // namespace baton
