// The fields that completions and chat have in common. Internal to router/openai.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "router/openai/field_reader.h"
#include "router/openai/request.h"

namespace baton {

struct CommonFields {
  RoutedRequest request;  // all but spec.tokens, prompt_length and max_tokens
  std::string request_id;
  std::string model;
  std::optional<int64_t> max_tokens;
  std::string max_tokens_param = "max_tokens";
  std::optional<int32_t> default_tokens;  // nullopt: the rest of the context
  std::optional<int64_t> truncate_prompt_tokens;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  bool return_token_ids = false;
  bool timings = false;
};

struct PromptInput {
  std::vector<TokenId> tokens;
  std::string text;  // for echo
};

// Reads them; problems are left in `reader`.
CommonFields ReadCommonFields(FieldReader& reader, const RequestHeaders& headers,
                              const ParseContext& context);

// The served model's name; 404 for any other.
std::string ReadModel(FieldReader& reader, const ParseContext& context);

// Fails with 400 for each named field whose value is not null, false or empty.
void RefuseUnimplemented(FieldReader& reader, std::initializer_list<std::string_view> names);

// Puts fields and prompts together: truncation, context length, ids.
ApiResult<ApiRequest> BuildRequest(ApiKind kind, CommonFields fields,
                                   std::vector<PromptInput> prompts, const ParseContext& context);

}  // namespace baton
