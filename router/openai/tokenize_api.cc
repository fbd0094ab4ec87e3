#include "router/openai/tokenize_api.h"

#include <nlohmann/json.hpp>

#include "router/openai/chat_fields.h"
#include "router/openai/json_body.h"
#include "router/openai/json_writer.h"
#include "router/openai/parse_fields.h"

namespace baton {
namespace {

using nlohmann::json;

std::vector<TokenId> ReadTokenizeInput(FieldReader& reader, const ParseContext& context) {
  if (reader.Has("messages")) return ReadChatPrompt(reader, context);
  const json* prompt = reader.Find("prompt");
  if (prompt == nullptr) {
    if (reader.ok()) reader.Fail("prompt", "prompt (or messages) is required");
    return {};
  }
  if (!prompt->is_string()) {
    reader.FailType("prompt", *prompt, "a string");
    return {};
  }
  const bool add_special = reader.Bool("add_special_tokens", true);
  return context.tokenizer.Encode(prompt->get_ref<const std::string&>(), add_special,
                                  /*parse_special=*/false);
}

}  // namespace

ApiResult<std::string> Tokenize(std::string_view body, const ParseContext& context) {
  ApiResult<json> parsed = ParseJsonObject(body);
  if (!parsed.ok()) return parsed.error();
  FieldReader reader(parsed.value());
  ReadModel(reader, context);
  const bool return_strings = reader.Bool("return_token_strs", true);
  const std::vector<TokenId> tokens = ReadTokenizeInput(reader, context);
  if (!reader.ok()) return reader.error();
  reader.ReportUnknown(context.on_unknown_field);

  std::string out = "{\"count\":";
  AppendInt(out, static_cast<int64_t>(tokens.size()));
  out += ",\"max_model_len\":";
  AppendInt(out, context.model.max_model_len);
  out += ",\"tokens\":";
  AppendTokenIds(out, tokens);
  out += ",\"token_strs\":";
  if (return_strings) {
    out += '[';
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0) out += ',';
      AppendJsonString(out, context.tokenizer.TokenPiece(tokens[i]));
    }
    out += ']';
  } else {
    out += "null";
  }
  out += '}';
  return out;
}

ApiResult<std::string> Detokenize(std::string_view body, const ParseContext& context) {
  ApiResult<json> parsed = ParseJsonObject(body);
  if (!parsed.ok()) return parsed.error();
  FieldReader reader(parsed.value());
  ReadModel(reader, context);
  if (!reader.Has("tokens") && reader.ok()) reader.Fail("tokens", "tokens is required");
  const std::vector<TokenId> tokens =
      reader.TokenIdArray("tokens", kMaxJsonValues, context.model.vocab_size);
  if (!reader.ok()) return reader.error();
  reader.ReportUnknown(context.on_unknown_field);
  std::string out = "{\"prompt\":";
  AppendJsonString(out, context.tokenizer.Decode(tokens, /*skip_special=*/false));
  out += '}';
  return out;
}

}  // namespace baton
