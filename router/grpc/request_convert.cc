#include "router/grpc/request_convert.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/str_cat.h"
#include "router/front/context.h"
#include "router/front/limits.h"
#include "router/grpc/status_map.h"
#include "router/openai/chat_prompt.h"

namespace baton {
namespace {

// Collects the first problem; later ones are dropped.
class Problems {
 public:
  void Range(const char* name, double value, const NumberRange& range) {
    Add(CheckRange(name, value, range));
  }
  void Range(const char* name, int64_t value, const IntRange& range) {
    Add(CheckRange(name, value, range));
  }
  void Count(const char* name, size_t count, size_t limit) {
    if (count <= limit) return;
    Add(FieldError{
        name, absl::StrCat(name, " has ", count, " entries; at most ", limit, " are allowed")});
  }
  void Bytes(const char* name, const std::string& text, size_t limit) {
    if (text.size() <= limit) return;
    Add(FieldError{
        name, absl::StrCat(name, " has ", text.size(), " bytes; at most ", limit, " are allowed")});
  }
  void Token(const char* name, int64_t token, int32_t vocab_size) {
    if (token >= 0 && token < vocab_size) return;
    Add(FieldError{name, absl::StrCat(name, " holds token id ", token,
                                      "; the vocabulary has ids 0 to ", vocab_size - 1)});
  }
  void Add(std::optional<FieldError> error) {
    if (!first_.has_value()) first_ = std::move(error);
  }
  grpc::Status status() const { return first_ ? ToGrpcStatus(*first_) : grpc::Status::OK; }

 private:
  std::optional<FieldError> first_;
};

void ConvertSampling(const v1::Sampling& proto, int32_t vocab_size, SamplingParams& sampling,
                     Problems& problems) {
  const auto number = [&](bool given, float value, const char* name, const NumberRange& range,
                          float& out) {
    if (!given) return;
    problems.Range(name, static_cast<double>(value), range);
    out = range.min_open ? std::max(value, kSmallestPositive) : value;
  };
  number(proto.has_temperature(), proto.temperature(), "sampling.temperature", kTemperatureRange,
         sampling.temperature);
  number(proto.has_top_p(), proto.top_p(), "sampling.top_p", kTopPRange, sampling.top_p);
  number(proto.has_min_p(), proto.min_p(), "sampling.min_p", kMinPRange, sampling.min_p);
  number(proto.has_presence_penalty(), proto.presence_penalty(), "sampling.presence_penalty",
         kPenaltyRange, sampling.presence_penalty);
  number(proto.has_frequency_penalty(), proto.frequency_penalty(), "sampling.frequency_penalty",
         kPenaltyRange, sampling.frequency_penalty);
  number(proto.has_repetition_penalty(), proto.repetition_penalty(), "sampling.repetition_penalty",
         kRepetitionPenaltyRange, sampling.repetition_penalty);
  problems.Range("sampling.top_k", int64_t{proto.top_k()}, kTopKRange);
  sampling.top_k = std::max(0, proto.top_k());
  problems.Count("sampling.logit_bias", proto.logit_bias().size(), kMaxLogitBiasEntries);
  for (const auto& [token, weight] : proto.logit_bias()) {
    problems.Token("sampling.logit_bias", token, vocab_size);
    problems.Range("sampling.logit_bias", static_cast<double>(weight), kLogitBiasRange);
    sampling.logit_bias.emplace_back(token, weight);
  }
  // A protobuf map has no order; the request must not depend on a hash table's.
  std::sort(sampling.logit_bias.begin(), sampling.logit_bias.end());
}

void ConvertStopping(const v1::Stopping& proto, int32_t vocab_size, RoutedRequest& request,
                     Problems& problems) {
  StoppingParams& stopping = request.spec.stopping;
  if (proto.has_max_tokens()) {
    problems.Range("stopping.max_tokens", int64_t{proto.max_tokens()}, IntRange{1, INT32_MAX});
  }
  problems.Range("stopping.min_tokens", int64_t{proto.min_tokens()}, IntRange{0, INT32_MAX});
  stopping.min_tokens = proto.min_tokens();
  stopping.ignore_eos = proto.ignore_eos();
  problems.Count("stopping.stop", static_cast<size_t>(proto.stop_size()), kMaxStopStrings);
  for (const std::string& stop : proto.stop()) {
    problems.Bytes("stopping.stop", stop, kMaxStopBytes);
    if (stop.empty()) {
      problems.Add(FieldError{"stopping.stop", "stopping.stop holds an empty string"});
    }
    request.output.stop.push_back(stop);
  }
  problems.Count("stopping.stop_token_ids", static_cast<size_t>(proto.stop_token_ids_size()),
                 kMaxStopTokenIds);
  for (const TokenId token : proto.stop_token_ids()) {
    problems.Token("stopping.stop_token_ids", token, vocab_size);
    stopping.stop_token_ids.push_back(token);
  }
  request.output.include_stop_str_in_output = proto.include_stop_str_in_output();
}

void ConvertSlo(const v1::Slo& proto, const std::string& class_in_metadata,
                const RequestLimits& limits, SloParams& slo, Problems& problems) {
  const bool in_message = !proto.slo_class().empty();
  slo.slo_class = in_message ? proto.slo_class() : class_in_metadata;
  const char* const named_in = in_message ? "slo.slo_class" : "x-slo-class";
  problems.Bytes(named_in, slo.slo_class, kMaxNameBytes);
  problems.Add(CheckSloClass(named_in, slo.slo_class, limits));
  if (proto.has_ttft_ms()) {
    problems.Range("slo.ttft_ms", proto.ttft_ms(), kSloMsRange);
    slo.ttft_ms = proto.ttft_ms();
  }
  if (proto.has_tpot_ms()) {
    problems.Range("slo.tpot_ms", proto.tpot_ms(), kSloMsRange);
    slo.tpot_ms = proto.tpot_ms();
  }
}

grpc::Status ConvertPrompt(const v1::CompletionRequest& proto, const GrpcContext& context,
                           int32_t vocab_size, std::vector<TokenId>& tokens) {
  Problems problems;
  switch (proto.prompt_case()) {
    case v1::CompletionRequest::kText:
      tokens = context.parts.tokenizer.Encode(proto.text(), /*add_special_tokens=*/true,
                                              /*parse_special=*/false);
      break;
    case v1::CompletionRequest::kTokenIds:
      tokens.assign(proto.token_ids().ids().begin(), proto.token_ids().ids().end());
      for (const TokenId token : tokens) problems.Token("token_ids", token, vocab_size);
      break;
    case v1::CompletionRequest::kMessages:
      return EncodeMessages(proto.messages(), context, tokens);
    case v1::CompletionRequest::PROMPT_NOT_SET:
      problems.Add(FieldError{"prompt", "one of text, token_ids and messages is required"});
      break;
  }
  if (tokens.empty()) problems.Add(FieldError{"prompt", "the prompt is empty"});
  return problems.status();
}

void FitTokens(const v1::CompletionRequest& proto, int32_t max_model_len, GenerationSpec& spec,
               Problems& problems) {
  ContextQuestion question{.prompt_tokens = static_cast<int64_t>(spec.tokens.size()),
                           .max_model_len = max_model_len,
                           .max_tokens_param = "stopping.max_tokens"};
  if (proto.stopping().has_max_tokens()) question.max_tokens = proto.stopping().max_tokens();
  if (!proto.has_messages()) question.default_tokens = kDefaultMaxTokens;
  ContextAnswer fit = FitContext(question);
  problems.Add(std::move(fit.error));
  spec.stopping.max_tokens = fit.max_tokens;
  if (spec.stopping.min_tokens > spec.stopping.max_tokens) {
    problems.Add(
        FieldError{"stopping.min_tokens",
                   absl::StrCat("stopping.min_tokens is ", spec.stopping.min_tokens,
                                "; it must not exceed max_tokens, ", spec.stopping.max_tokens)});
  }
  spec.prompt_length = static_cast<int32_t>(spec.tokens.size());
}

}  // namespace

absl::Duration TimeoutOf(std::chrono::system_clock::time_point deadline, absl::Duration longest) {
  // gRPC gives the far future for "none"; subtracting from it would overflow.
  if (deadline == std::chrono::system_clock::time_point::max()) return longest;
  const auto left = absl::FromChrono(deadline) - absl::Now();
  return std::clamp(left, absl::ZeroDuration(), longest);
}

grpc::Status CheckModel(const std::string& name, const ServedModel& model) {
  if (name.empty() || name == model.name) return grpc::Status::OK;
  return grpc::Status(
      grpc::StatusCode::NOT_FOUND,
      absl::StrCat("the model '", name, "' does not exist; this server serves '", model.name, "'"));
}

grpc::Status EncodeMessages(const v1::ChatMessages& messages, const GrpcContext& context,
                            std::vector<TokenId>& tokens) {
  Problems problems;
  problems.Count("messages", static_cast<size_t>(messages.messages_size()), kMaxMessages);
  if (messages.messages_size() == 0) {
    problems.Add(FieldError{"messages", "messages must hold at least one message"});
  }
  std::vector<ChatTurn> turns;
  for (const v1::ChatMessage& message : messages.messages()) {
    if (message.role().empty()) {
      problems.Add(FieldError{"messages.role", "messages.role is required"});
    }
    turns.push_back({message.role(), message.content()});
  }
  if (!problems.status().ok()) return problems.status();
  const bool add_generation_prompt =
      !messages.has_add_generation_prompt() || messages.add_generation_prompt();
  ApiResult<std::string> text = RenderChatPrompt(
      turns, add_generation_prompt, context.parts.tokenizer, context.parts.render_chat);
  if (!text.ok()) return ToGrpcStatus(text.error());
  tokens = context.parts.tokenizer.Encode(text.value(), /*add_special_tokens=*/false,
                                          /*parse_special=*/true);
  if (tokens.empty()) {
    return ToGrpcStatus(FieldError{"messages", "the rendered prompt is empty"});
  }
  return grpc::Status::OK;
}

grpc::Status ConvertRequest(const v1::CompletionRequest& proto, const GrpcContext& context,
                            const CallHeaders& headers, GrpcCall& call) {
  if (auto status = NotReadyStatus(context.parts.service.readiness())) return *status;
  const ServedModel model = context.parts.service.model();
  if (grpc::Status status = CheckModel(proto.model(), model); !status.ok()) return status;
  RoutedRequest& request = call.request;
  GenerationSpec& spec = request.spec;
  Problems problems;
  ConvertSampling(proto.sampling(), model.vocab_size, spec.sampling, problems);
  spec.sampling.seed = proto.sampling().has_seed() ? proto.sampling().seed() : context.ids.Next();
  ConvertStopping(proto.stopping(), model.vocab_size, request, problems);
  ConvertSlo(proto.slo(), headers.slo_class, context.options.limits, request.slo, problems);
  if (proto.has_n()) {
    problems.Range("n", int64_t{proto.n()}, IntRange{1, context.options.limits.max_samples});
    spec.num_samples = proto.n();
  }
  const v1::Output& output = proto.output();
  if (output.has_logprobs()) {
    problems.Range("output.logprobs", int64_t{output.logprobs()}, kLogprobsRange);
    spec.sampling.num_logprobs = output.logprobs();
  }
  request.output.skip_special_tokens =
      !output.has_skip_special_tokens() || output.skip_special_tokens();
  problems.Bytes("request_id", proto.request_id(), kMaxNameBytes);
  problems.Bytes("cache_salt", proto.cache_salt(), kMaxNameBytes);
  if (!problems.status().ok()) return problems.status();

  grpc::Status prompt = ConvertPrompt(proto, context, model.vocab_size, spec.tokens);
  if (!prompt.ok()) return prompt;
  FitTokens(proto, model.max_model_len, spec, problems);
  request.external_id = proto.request_id().empty() ? context.ids.NextHex() : proto.request_id();
  request.priority = proto.priority();
  const CallerNames caller{headers.tenant, headers.authorization, "", proto.cache_salt()};
  spec.cache_salt = CacheSaltOf(caller);
  request.tenant = TenantOf(caller);
  request.timeout = headers.timeout;
  call.model = model.name;
  call.return_token_ids = output.return_token_ids();
  call.logprobs = spec.sampling.num_logprobs >= 0;
  call.timings = output.timings();
  return problems.status();
}

v1::Model ToProto(const ServedModel& model) {
  v1::Model proto;
  proto.set_id(model.name);
  proto.set_root(model.root);
  proto.set_max_model_len(model.max_model_len);
  proto.set_created(model.created_unix_s);
  return proto;
}

v1::Timings ToProto(const RequestTimings& timings) {
  v1::Timings proto;
  proto.set_queue_ms(timings.queue_ms);
  proto.set_reserve_ms(timings.reserve_ms);
  proto.set_prefill_ms(timings.prefill_ms);
  proto.set_transfer_ms(timings.transfer_ms);
  proto.set_transfer_exposed_ms(timings.transfer_exposed_ms);
  proto.set_decode_queue_ms(timings.decode_queue_ms);
  proto.set_decode_ms(timings.decode_ms);
  proto.set_ttft_ms(timings.ttft_ms);
  proto.set_tpot_ms(timings.tpot_ms);
  proto.set_total_ms(timings.total_ms);
  proto.set_kv_bytes(timings.kv_bytes);
  proto.set_prefill_worker(timings.prefill_worker);
  proto.set_decode_worker(timings.decode_worker);
  proto.set_transport(timings.transport);
  proto.set_attempts(timings.attempts);
  return proto;
}

v1::Usage UsageOf(const RequestSummary& summary) {
  v1::Usage usage;
  usage.set_prompt_tokens(summary.prompt_tokens);
  usage.set_completion_tokens(summary.completion_tokens);
  usage.set_cached_tokens(summary.cached_tokens);
  return usage;
}

v1::LogprobEntry ToProto(const OutputToken& token) {
  v1::LogprobEntry proto;
  proto.set_token_id(token.token);
  proto.set_token(token.piece);
  proto.set_logprob(token.logprob);
  for (const auto& [entry, piece] : token.top) {
    v1::TopLogprob* top = proto.add_top();
    top->set_token_id(entry.token);
    top->set_token(piece);
    top->set_logprob(entry.logprob);
  }
  return proto;
}

std::string StopReasonOf(const SampleDelta& delta) {
  if (!delta.finished) return "";
  return delta.stop_token >= 0 ? absl::StrCat(delta.stop_token) : delta.stop_reason;
}

}  // namespace baton
