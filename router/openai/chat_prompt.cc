#include "router/openai/chat_prompt.h"

#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "router/openai/json_writer.h"

namespace baton {

ApiResult<std::string> RenderChatPrompt(const std::vector<ChatTurn>& turns,
                                        bool add_generation_prompt, const Tokenizer& tokenizer,
                                        const ChatRenderer& render) {
  std::string context = "{\"messages\":[";
  for (size_t i = 0; i < turns.size(); ++i) {
    context += i == 0 ? "{\"role\":" : ",{\"role\":";
    AppendJsonString(context, turns[i].role);
    context += ",\"content\":";
    AppendJsonString(context, turns[i].content);
    context += '}';
  }
  context += "],\"add_generation_prompt\":";
  context += add_generation_prompt ? "true" : "false";
  context += ",\"bos_token\":";
  AppendJsonString(context, BosPiece(tokenizer));
  context += ",\"eos_token\":";
  AppendJsonString(context, EosPiece(tokenizer));
  context += '}';
  return RenderChatContext(context, render);
}

ApiResult<std::string> RenderChatContext(const std::string& context_json,
                                         const ChatRenderer& render) {
  if (!render) {
    return InvalidField("messages",
                        "the served model has no chat template; use /v1/completions instead");
  }
  absl::StatusOr<std::string> prompt = render(context_json);
  if (prompt.ok()) return *std::move(prompt);
  return InvalidField("messages", absl::StrCat("the chat template refuses these messages: ",
                                               prompt.status().message()));
}

std::string BosPiece(const Tokenizer& tokenizer) {
  return tokenizer.bos_token() < 0 ? "" : tokenizer.TokenPiece(tokenizer.bos_token());
}

std::string EosPiece(const Tokenizer& tokenizer) {
  return tokenizer.eos_token() < 0 ? "" : tokenizer.TokenPiece(tokenizer.eos_token());
}

}  // namespace baton
