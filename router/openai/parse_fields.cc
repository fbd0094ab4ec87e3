#include "router/openai/parse_fields.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "router/front/context.h"

namespace baton {
namespace {

using nlohmann::json;

void ReadLogitBias(FieldReader& reader, int32_t vocab_size, SamplingParams& sampling) {
  const json* bias = reader.Object("logit_bias");
  if (bias == nullptr) return;
  if (bias->size() > kMaxLogitBiasEntries) {
    reader.Fail("logit_bias", absl::StrCat("logit_bias has ", bias->size(), " entries; at most ",
                                           kMaxLogitBiasEntries, " are allowed"));
    return;
  }
  for (const auto& [key, value] : bias->items()) {
    int32_t token = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), token);
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size() || token < 0 ||
        token >= vocab_size) {
      reader.Fail("logit_bias", absl::StrCat("logit_bias has the key '", key,
                                             "'; keys are token ids from 0 to ", vocab_size - 1));
      return;
    }
    if (!value.is_number()) {
      reader.FailType("logit_bias", value, "an object of numbers");
      return;
    }
    const double weight = value.get<double>();
    reader.Fail(CheckRange("logit_bias", weight, kLogitBiasRange));
    sampling.logit_bias.emplace_back(token, static_cast<float>(weight));
  }
}

void ReadSampling(FieldReader& reader, const ParseContext& context, RoutedRequest& request) {
  SamplingParams& sampling = request.spec.sampling;
  const auto number = [&](const char* name, const NumberRange& range, float fallback) {
    const auto value = static_cast<float>(reader.Number(name, range).value_or(fallback));
    return range.min_open ? std::max(value, kSmallestPositive) : value;
  };
  sampling.temperature = number("temperature", kTemperatureRange, 1.0f);
  sampling.top_p = number("top_p", kTopPRange, 1.0f);
  sampling.min_p = number("min_p", kMinPRange, 0.0f);
  sampling.presence_penalty = number("presence_penalty", kPenaltyRange, 0.0f);
  sampling.frequency_penalty = number("frequency_penalty", kPenaltyRange, 0.0f);
  sampling.repetition_penalty = number("repetition_penalty", kRepetitionPenaltyRange, 1.0f);
  sampling.top_k =
      static_cast<int32_t>(std::max<int64_t>(0, reader.Integer("top_k", kTopKRange).value_or(0)));
  const auto seed = reader.Integer("seed", IntRange{INT64_MIN, INT64_MAX});
  sampling.seed = seed.has_value() ? static_cast<uint64_t>(*seed) : context.ids.Next();
  ReadLogitBias(reader, context.model.vocab_size, sampling);
  const IntRange samples{1, context.limits.max_samples};
  request.spec.num_samples = static_cast<int32_t>(reader.Integer("n", samples).value_or(1));
}

void AddStop(FieldReader& reader, const json& value, std::vector<std::string>& stop) {
  if (!value.is_string()) {
    reader.FailType("stop", value, "a string or an array of strings");
    return;
  }
  const auto& text = value.get_ref<const std::string&>();
  if (text.empty() || text.size() > kMaxStopBytes) {
    reader.Fail("stop", absl::StrCat("stop holds a string of ", text.size(),
                                     " bytes; each must have 1 to ", kMaxStopBytes));
    return;
  }
  stop.push_back(text);
}

void ReadStop(FieldReader& reader, std::vector<std::string>& stop) {
  const json* value = reader.Find("stop");
  if (value == nullptr) return;
  if (!value->is_array()) {
    AddStop(reader, *value, stop);
    return;
  }
  if (value->size() > kMaxStopStrings) {
    reader.Fail("stop", absl::StrCat("stop has ", value->size(), " strings; at most ",
                                     kMaxStopStrings, " are allowed"));
    return;
  }
  for (const json& item : *value) AddStop(reader, item, stop);
}

void ReadStopping(FieldReader& reader, const ParseContext& context, CommonFields& fields) {
  StoppingParams& stopping = fields.request.spec.stopping;
  OutputParams& output = fields.request.output;
  fields.max_tokens = reader.Integer("max_tokens", IntRange{1, INT32_MAX});
  stopping.min_tokens =
      static_cast<int32_t>(reader.Integer("min_tokens", IntRange{0, INT32_MAX}).value_or(0));
  stopping.ignore_eos = reader.Bool("ignore_eos", false);
  stopping.stop_token_ids =
      reader.TokenIdArray("stop_token_ids", kMaxStopTokenIds, context.model.vocab_size);
  ReadStop(reader, output.stop);
  output.include_stop_str_in_output = reader.Bool("include_stop_str_in_output", false);
  output.skip_special_tokens = reader.Bool("skip_special_tokens", true);
}

void ReadStreamOptions(FieldReader& reader, const ParseContext& context, CommonFields& fields) {
  fields.stream = reader.Bool("stream", false);
  const json* options = reader.Object("stream_options");
  if (options == nullptr) return;
  if (!fields.stream) {
    reader.Fail("stream_options", "stream_options is only allowed when stream is true");
    return;
  }
  FieldReader inner(*options, "stream_options.");
  fields.include_usage = inner.Bool("include_usage", false);
  fields.continuous_usage = inner.Bool("continuous_usage_stats", false);
  if (!inner.ok()) reader.Fail(inner.error());
  inner.ReportUnknown(context.on_unknown_field);
}

void ReadSlo(FieldReader& reader, const RequestHeaders& headers, const ParseContext& context,
             SloParams& slo) {
  const std::optional<std::string> in_body = reader.String("slo_class", kMaxNameBytes);
  slo.slo_class = in_body.value_or(headers.slo_class);
  const char* const named_in = in_body.has_value() ? "slo_class" : "x-slo-class";
  reader.Fail(CheckSloClass(named_in, slo.slo_class, context.limits));
  const json* object = reader.Object("slo");
  if (object == nullptr) return;
  FieldReader inner(*object, "slo.");
  slo.ttft_ms = inner.Number("ttft_ms", kSloMsRange);
  slo.tpot_ms = inner.Number("tpot_ms", kSloMsRange);
  if (!inner.ok()) reader.Fail(inner.error());
  inner.ReportUnknown(context.on_unknown_field);
}

void CheckResponseFormat(FieldReader& reader) {
  const json* format = reader.Object("response_format");
  if (format == nullptr) return;
  const auto type = format->find("type");
  if (type != format->end() && type->is_string() && *type == "text") return;
  reader.Fail("response_format", "response_format supports only {\"type\": \"text\"}");
}

// Ids from clients go into headers and logs: printable ASCII only.
bool IsPlainId(std::string_view id) {
  if (id.empty() || id.size() > kMaxNameBytes) return false;
  return std::all_of(id.begin(), id.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}

void ReadIdentity(FieldReader& reader, const RequestHeaders& headers, const ParseContext& context,
                  CommonFields& fields) {
  const std::optional<std::string> given = reader.String("request_id", kMaxNameBytes);
  if (given.has_value() && !IsPlainId(*given)) {
    reader.Fail("request_id", "request_id must be printable ASCII without spaces");
  }
  fields.request_id = given.value_or(headers.request_id);
  if (!IsPlainId(fields.request_id)) fields.request_id = context.ids.NextHex();
  const std::string salt = reader.String("cache_salt", kMaxNameBytes).value_or("");
  fields.request.priority =
      static_cast<int32_t>(reader.Integer("priority", kPriorityRange).value_or(0));
  const std::string user = reader.String("user", kMaxNameBytes).value_or("");
  const CallerNames caller{headers.tenant, headers.authorization, user, salt};
  fields.request.spec.cache_salt = CacheSaltOf(caller);
  fields.request.tenant = TenantOf(caller);
}

std::optional<ApiError> FinishPrompt(PromptInput& prompt, const CommonFields& fields,
                                     const ParseContext& context, RoutedRequest& request) {
  if (const auto keep = fields.truncate_prompt_tokens;
      keep.has_value() && static_cast<int64_t>(prompt.tokens.size()) > *keep) {
    prompt.tokens.erase(prompt.tokens.begin(), prompt.tokens.end() - *keep);
    if (!prompt.text.empty()) prompt.text = context.tokenizer.Decode(prompt.tokens, false);
  }
  ContextAnswer fit = FitContext({.prompt_tokens = static_cast<int64_t>(prompt.tokens.size()),
                                  .max_tokens = fields.max_tokens,
                                  .default_tokens = fields.default_tokens,
                                  .max_model_len = context.model.max_model_len,
                                  .max_tokens_param = fields.max_tokens_param});
  if (fit.error.has_value()) return FromFieldError(*std::move(fit.error));
  StoppingParams& stopping = request.spec.stopping;
  stopping.max_tokens = fit.max_tokens;
  if (stopping.min_tokens > stopping.max_tokens) {
    return InvalidField("min_tokens",
                        absl::StrCat("min_tokens is ", stopping.min_tokens,
                                     "; it must not exceed max_tokens, ", stopping.max_tokens));
  }
  request.spec.prompt_length = static_cast<int32_t>(prompt.tokens.size());
  return std::nullopt;
}

bool IsEmptyValue(const json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_string()) return value.get_ref<const std::string&>().empty();
  return value.is_structured() && value.empty();
}

}  // namespace

CommonFields ReadCommonFields(FieldReader& reader, const RequestHeaders& headers,
                              const ParseContext& context) {
  CommonFields fields;
  fields.model = ReadModel(reader, context);
  ReadSampling(reader, context, fields.request);
  ReadStopping(reader, context, fields);
  ReadStreamOptions(reader, context, fields);
  ReadSlo(reader, headers, context, fields.request.slo);
  CheckResponseFormat(reader);
  ReadIdentity(reader, headers, context, fields);
  fields.truncate_prompt_tokens =
      reader.Integer("truncate_prompt_tokens", IntRange{1, context.model.max_model_len});
  fields.return_token_ids = reader.Bool("return_token_ids", false);
  fields.timings = reader.Bool("timings", false);
  fields.request.timeout = context.timeout;
  RefuseUnimplemented(reader, {"guided_json", "guided_regex", "guided_choice", "guided_grammar",
                               "structured_outputs", "use_beam_search", "prompt_logprobs",
                               "allowed_token_ids", "bad_words", "logits_processors"});
  return fields;
}

std::string ReadModel(FieldReader& reader, const ParseContext& context) {
  std::string name = reader.String("model", kMaxNameBytes).value_or("");
  if (name.empty() || name == context.model.name) return context.model.name;
  reader.Fail(ApiError{
      .http_status = 404,
      .message = absl::StrCat("The model '", name, "' does not exist; this server serves '",
                              context.model.name, "'"),
      .type = "invalid_request_error",
      .param = "model",
      .code = "model_not_found"});
  return name;
}

void RefuseUnimplemented(FieldReader& reader, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    const json* value = reader.Find(name);
    if (value == nullptr || IsEmptyValue(*value)) continue;
    reader.Fail(name, absl::StrCat(View(name), " is not supported by this server"));
  }
}

ApiResult<ApiRequest> BuildRequest(ApiKind kind, CommonFields fields,
                                   std::vector<PromptInput> prompts, const ParseContext& context) {
  const int64_t choices = static_cast<int64_t>(prompts.size()) * fields.request.spec.num_samples;
  if (choices > context.limits.max_choices) {
    return InvalidField("n", absl::StrCat("prompts times n is ", choices, "; at most ",
                                          context.limits.max_choices, " are allowed"));
  }
  if (fields.timings && prompts.size() > 1) {
    return InvalidField("timings", "timings is only allowed with a single prompt");
  }
  ApiRequest result;
  result.request_id = fields.request_id;
  ResponseShape& shape = result.shape;
  shape.kind = kind;
  shape.id = (kind == ApiKind::kChat ? "chatcmpl-" : "cmpl-") + fields.request_id;
  shape.model = fields.model;
  shape.created_unix_s = context.now_unix_s;
  shape.samples = fields.request.spec.num_samples;
  shape.stream = fields.stream;
  shape.include_usage = fields.include_usage;
  shape.continuous_usage = fields.continuous_usage;
  shape.logprobs = fields.request.spec.sampling.num_logprobs >= 0;
  shape.return_token_ids = fields.return_token_ids;
  shape.timings = fields.timings;
  fields.request.external_id = fields.request_id;
  for (PromptInput& prompt : prompts) {
    RoutedRequest request = fields.request;
    if (auto error = FinishPrompt(prompt, fields, context, request)) return *std::move(error);
    shape.prompts.push_back(
        {.prompt_tokens = request.spec.prompt_length,
         .echo_text = std::move(prompt.text),
         .tokens = shape.return_token_ids ? prompt.tokens : std::vector<TokenId>()});
    request.spec.tokens = std::move(prompt.tokens);
    result.prompts.push_back(std::move(request));
  }
  return result;
}

}  // namespace baton
