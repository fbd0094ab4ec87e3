#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "router/openai/json_body.h"
#include "router/openai/parse_fields.h"
#include "router/openai/request.h"

namespace baton {
namespace {

using nlohmann::json;

class PromptReader {
 public:
  PromptReader(FieldReader& reader, const ParseContext& context)
      : reader_(reader), context_(context), add_special_(reader.Bool("add_special_tokens", true)) {}

  // string | [string] | [int] | [[int]]
  std::vector<PromptInput> Read() {
    const json* prompt = reader_.Find("prompt");
    if (prompt == nullptr) {
      if (reader_.ok()) reader_.Fail("prompt", "prompt is required");
      return {};
    }
    if (prompt->is_string()) {
      AddText(*prompt);
    } else if (!prompt->is_array() || prompt->empty()) {
      FailShape(*prompt);
    } else if (prompt->front().is_number()) {
      AddTokens(*prompt);
    } else {
      AddBatch(*prompt);
    }
    return std::move(prompts_);
  }

 private:
  void FailShape(const json& value) {
    reader_.FailType("prompt", value,
                     "a string, an array of strings, an array of token ids or an array of such "
                     "arrays, and not empty");
  }

  void AddBatch(const json& batch) {
    const auto limit = static_cast<size_t>(context_.limits.max_prompts);
    if (batch.size() > limit) {
      reader_.Fail("prompt", absl::StrCat("prompt has ", batch.size(), " prompts; at most ", limit,
                                          " are allowed"));
      return;
    }
    for (const json& item : batch) {
      if (!reader_.ok()) return;
      if (item.is_string() && batch.front().is_string()) {
        AddText(item);
      } else if (item.is_array() && batch.front().is_array()) {
        AddTokens(item);
      } else {
        FailShape(item);
      }
    }
  }

  void AddText(const json& value) {
    const auto& text = value.get_ref<const std::string&>();
    Add({context_.tokenizer.Encode(text, add_special_, /*parse_special=*/false), text});
  }

  void AddTokens(const json& array) {
    PromptInput input;
    input.tokens.reserve(array.size());
    for (const json& item : array) {
      reader_.ReadTokenId(item, "prompt", context_.model.vocab_size, input.tokens);
      if (!reader_.ok()) return;
    }
    Add(std::move(input));
  }

  void Add(PromptInput input) {
    if (input.tokens.empty()) {
      reader_.Fail("prompt", "prompt is empty");
      return;
    }
    prompts_.push_back(std::move(input));
  }

  FieldReader& reader_;
  const ParseContext& context_;
  const bool add_special_;
  std::vector<PromptInput> prompts_;
};

void CheckBestOf(FieldReader& reader, int32_t samples, int32_t max_samples) {
  const auto best_of = reader.Integer("best_of", IntRange{1, max_samples});
  if (!best_of.has_value() || *best_of == 1 || *best_of == samples) return;
  reader.Fail("best_of", absl::StrCat("best_of is ", *best_of, "; only 1 or the value of n, ",
                                      samples, ", is supported"));
}

}  // namespace

ApiResult<ApiRequest> ParseCompletionRequest(std::string_view body, const RequestHeaders& headers,
                                             const ParseContext& context) {
  ApiResult<json> parsed = ParseJsonObject(body);
  if (!parsed.ok()) return parsed.error();
  FieldReader reader(parsed.value());
  CommonFields fields = ReadCommonFields(reader, headers, context);
  fields.default_tokens = kDefaultMaxTokens;
  SamplingParams& sampling = fields.request.spec.sampling;
  CheckBestOf(reader, fields.request.spec.num_samples, context.limits.max_samples);
  RefuseUnimplemented(reader, {"suffix"});
  if (const auto logprobs = reader.Integer("logprobs", kLogprobsRange)) {
    sampling.num_logprobs = static_cast<int32_t>(*logprobs);
  }
  const bool echo = reader.Bool("echo", false);
  if (echo) sampling.num_prompt_logprobs = sampling.num_logprobs;
  std::vector<PromptInput> prompts;
  if (reader.ok()) prompts = PromptReader(reader, context).Read();
  if (!reader.ok()) return reader.error();
  reader.ReportUnknown(context.on_unknown_field);
  for (PromptInput& prompt : prompts) {
    if (!echo) {
      prompt.text.clear();
    } else if (prompt.text.empty()) {
      prompt.text = context.tokenizer.Decode(prompt.tokens, /*skip_special=*/false);
    }
  }
  auto result = BuildRequest(ApiKind::kCompletion, std::move(fields), std::move(prompts), context);
  if (result.ok()) result.value().shape.echo = echo;
  return result;
}

}  // namespace baton
