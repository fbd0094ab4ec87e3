// The prompt part of a chat body: messages, template arguments. Internal to router/openai.
#pragma once

#include <string>

#include "router/openai/field_reader.h"
#include "router/openai/request.h"

namespace baton {

// Reads messages, chat_template_kwargs, add_generation_prompt, continue_final_message and
// add_special_tokens, renders the template and encodes the result. Problems are left in `reader`.
std::vector<TokenId> ReadChatPrompt(FieldReader& reader, const ParseContext& context);

}  // namespace baton
