// Builds what a chat template reads and renders it. Shared by HTTP and gRPC.
#pragma once

#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "router/openai/api_error.h"
#include "router/openai/request.h"

namespace baton {

struct ChatTurn {
  std::string role;
  std::string content;
};

// The prompt text of a plain conversation (no tools, no template arguments). 400 on `messages` when
// the model has no template or the template refuses.
ApiResult<std::string> RenderChatPrompt(const std::vector<ChatTurn>& turns,
                                        bool add_generation_prompt, const Tokenizer& tokenizer,
                                        const ChatRenderer& render);

// Renders a context that is already JSON ("messages", …).
ApiResult<std::string> RenderChatContext(const std::string& context_json,
                                         const ChatRenderer& render);

// The special tokens that templates read, as they stand in the vocabulary; empty: none.
std::string BosPiece(const Tokenizer& tokenizer);
std::string EosPiece(const Tokenizer& tokenizer);

}  // namespace baton
