#include "router/openai/chat_fields.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "router/openai/chat_prompt.h"

namespace baton {
namespace {

using nlohmann::json;

// A message's text: a string, or text parts joined. Null is empty (an assistant turn without text).
std::string ReadContent(FieldReader& reader, const json& content, const std::string& name) {
  if (content.is_null()) return "";
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) {
    reader.FailType(name, content, "a string or an array of text parts");
    return "";
  }
  std::string text;
  for (const json& part : content) {
    const auto type = part.is_object() ? part.find("type") : part.end();
    if (!part.is_object() || type == part.end() || !type->is_string()) {
      reader.Fail(name, name + " holds a part without a type");
      return "";
    }
    const auto value = part.find("text");
    if (*type != "text" || value == part.end() || !value->is_string()) {
      reader.Fail(name, absl::StrCat(name, " holds a part of type '", type->get<std::string>(),
                                     "'; only {\"type\": \"text\", \"text\": …} is supported"));
      return "";
    }
    text += value->get_ref<const std::string&>();
  }
  return text;
}

// The messages as templates expect them: content is always a string; other fields ride along.
json ReadMessages(FieldReader& reader) {
  json result = json::array();
  const json* messages = reader.Array("messages", kMaxMessages);
  if (messages == nullptr || messages->empty()) {
    if (reader.ok()) reader.Fail("messages", "messages must hold at least one message");
    return result;
  }
  for (size_t i = 0; i < messages->size() && reader.ok(); ++i) {
    const std::string name = absl::StrCat("messages[", i, "]");
    json message = (*messages)[i];
    if (!message.is_object()) {
      reader.FailType(name, message, "an object");
      break;
    }
    const auto role = message.find("role");
    if (role == message.end() || !role->is_string() || role->get<std::string>().empty()) {
      reader.Fail(name + ".role", name + ".role must be a string and is required");
      break;
    }
    for (const char* field : {"tool_calls", "function_call"}) {
      const auto call = message.find(field);
      if (call == message.end()) continue;
      if (!call->is_null() && !call->empty()) {
        reader.Fail(absl::StrCat(name, ".", field), "tool calls are not supported by this server");
      }
      message.erase(call);
    }
    message["content"] = ReadContent(reader, message.value("content", json()), name + ".content");
    result.push_back(std::move(message));
  }
  return result;
}

struct PromptOptions {
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};

PromptOptions ReadPromptOptions(FieldReader& reader) {
  PromptOptions options;
  options.continue_final_message = reader.Bool("continue_final_message", false);
  options.add_generation_prompt =
      reader.Bool("add_generation_prompt", !options.continue_final_message);
  if (options.continue_final_message && options.add_generation_prompt) {
    reader.Fail("continue_final_message",
                "continue_final_message and add_generation_prompt cannot both be true");
  }
  return options;
}

json TemplateContext(FieldReader& reader, json messages, const PromptOptions& options,
                     const ParseContext& context) {
  json result = json::object();
  if (const json* extra = reader.Object("chat_template_kwargs")) result = *extra;
  for (const char* name : {"messages", "add_generation_prompt", "bos_token", "eos_token"}) {
    if (result.contains(name)) {
      reader.Fail("chat_template_kwargs",
                  absl::StrCat("chat_template_kwargs must not set '", name, "'"));
    }
  }
  result["messages"] = std::move(messages);
  result["add_generation_prompt"] = options.add_generation_prompt;
  result["bos_token"] = BosPiece(context.tokenizer);
  result["eos_token"] = EosPiece(context.tokenizer);
  return result;
}

// Cuts the prompt right behind the last message's text, so that the model goes on with it.
void CutAfterFinalMessage(FieldReader& reader, const json& messages, std::string& prompt) {
  std::string last = messages.back()["content"].get<std::string>();
  // Templates commonly trim content, so the comparison ignores white space at its end.
  last.erase(last.find_last_not_of(" \t\r\n") + 1);
  const size_t at = last.empty() ? std::string::npos : prompt.rfind(last);
  if (at == std::string::npos) {
    reader.Fail(
        "continue_final_message",
        "the final message's text is not in the rendered prompt, so it cannot be continued");
    return;
  }
  prompt.resize(at + last.size());
}

}  // namespace

std::vector<TokenId> ReadChatPrompt(FieldReader& reader, const ParseContext& context) {
  const json messages = ReadMessages(reader);
  const PromptOptions options = ReadPromptOptions(reader);
  const json template_context = TemplateContext(reader, messages, options, context);
  const bool add_special = reader.Bool("add_special_tokens", false);
  if (!reader.ok()) return {};
  ApiResult<std::string> prompt = RenderChatContext(template_context.dump(), context.render_chat);
  if (!prompt.ok()) {
    reader.Fail(prompt.error());
    return {};
  }
  if (options.continue_final_message) CutAfterFinalMessage(reader, messages, prompt.value());
  if (!reader.ok()) return {};
  std::vector<TokenId> tokens =
      context.tokenizer.Encode(prompt.value(), add_special, /*parse_special=*/true);
  if (tokens.empty()) reader.Fail("messages", "the rendered prompt is empty");
  return tokens;
}

}  // namespace baton
