#include <nlohmann/json.hpp>

#include "router/openai/chat_fields.h"
#include "router/openai/json_body.h"
#include "router/openai/parse_fields.h"
#include "router/openai/request.h"

namespace baton {
namespace {

using nlohmann::json;

// Tools reach the model only when something parses its calls, which nothing does yet. With
// tool_choice "none" no call may be made, so leaving the tools out does what was asked.
void CheckTools(FieldReader& reader) {
  const json* choice = reader.Find("tool_choice");
  bool none = false;
  if (choice != nullptr) {
    none = *choice == "none";
    if (!none && *choice != "auto") {
      reader.Fail("tool_choice", "tool_choice supports only \"none\" and \"auto\"");
    }
  }
  const json* tools = reader.Array("tools", kMaxMessages);
  if (tools != nullptr && !tools->empty() && !none) {
    reader.Fail("tools", "tools is supported only with tool_choice \"none\"");
  }
  RefuseUnimplemented(reader, {"functions", "function_call", "audio", "prediction", "echo",
                               "documents", "web_search_options"});
  const json* modalities = reader.Array("modalities", 8);
  if (modalities != nullptr && *modalities != json::array({"text"})) {
    reader.Fail("modalities", "modalities supports only [\"text\"]");
  }
}

void ReadLogprobs(FieldReader& reader, SamplingParams& sampling) {
  const bool wanted = reader.Bool("logprobs", false);
  const auto top = reader.Integer("top_logprobs", kLogprobsRange);
  if (wanted) {
    sampling.num_logprobs = static_cast<int32_t>(top.value_or(0));
  } else if (top.value_or(0) > 0) {
    reader.Fail("top_logprobs", "top_logprobs is only allowed when logprobs is true");
  }
}

}  // namespace

ApiResult<ApiRequest> ParseChatRequest(std::string_view body, const RequestHeaders& headers,
                                       const ParseContext& context) {
  ApiResult<json> parsed = ParseJsonObject(body);
  if (!parsed.ok()) return parsed.error();
  FieldReader reader(parsed.value());
  CommonFields fields = ReadCommonFields(reader, headers, context);
  if (const auto tokens = reader.Integer("max_completion_tokens", IntRange{1, INT32_MAX})) {
    fields.max_tokens = tokens;
    fields.max_tokens_param = "max_completion_tokens";
  }
  ReadLogprobs(reader, fields.request.spec.sampling);
  CheckTools(reader);
  std::vector<PromptInput> prompts(1);
  prompts[0].tokens = ReadChatPrompt(reader, context);
  if (!reader.ok()) return reader.error();
  reader.ReportUnknown(context.on_unknown_field);
  return BuildRequest(ApiKind::kChat, std::move(fields), std::move(prompts), context);
}

}  // namespace baton
