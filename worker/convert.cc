#include "worker/convert.h"

#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

absl::Status Invalid(const char* field, double value, const std::string& allowed) {
  return absl::InvalidArgumentError(absl::StrCat(field, " ", value, " must be ", allowed));
}

absl::Status CheckInt(const char* field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " ", value, " must be in [", low, ", ", high, "]"));
}

// Refuses NaN too.
absl::Status CheckFloat(const char* field, float value, float low, float high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return Invalid(field, value, absl::StrCat("in [", low, ", ", high, "]"));
}

absl::Status CheckToken(const char* field, int32_t token, const CommandLimits& limits) {
  return CheckInt(field, token, 0, limits.vocab_size - 1);
}

// Milliseconds from the wire; 0 means `otherwise`.
absl::StatusOr<absl::Duration> DurationFromMs(const char* field, int32_t ms,
                                              absl::Duration otherwise,
                                              const CommandLimits& limits) {
  if (ms == 0) return otherwise;
  RETURN_IF_ERROR(CheckInt(field, ms, 0, absl::ToInt64Milliseconds(limits.max_duration)));
  return absl::Milliseconds(ms);
}

absl::StatusOr<absl::Duration> DeadlineFromMs(int32_t ms, const CommandLimits& limits) {
  return DurationFromMs("deadline_ms", ms, absl::InfiniteDuration(), limits);
}
absl::StatusOr<absl::Duration> LeaseFromMs(int32_t ms, const CommandLimits& limits) {
  return DurationFromMs("lease_ms", ms, limits.default_lease, limits);
}

// Of a Reserve, Prefill or Generate.
template <typename Command>
absl::StatusOr<ObjectiveLeft> ObjectiveOf(const Command& command) {
  if (!command.has_objective()) return ObjectiveLeft();
  const v1::Objective& in = command.objective();
  constexpr float kLargestMs = 1e9f;
  RETURN_IF_ERROR(CheckFloat("ttft_left_ms", in.ttft_left_ms(), -kLargestMs, kLargestMs));
  RETURN_IF_ERROR(CheckFloat("tpot_ms", in.tpot_ms(), 0, kLargestMs));
  return ObjectiveLeft{.ttft_left = absl::Milliseconds(in.ttft_left_ms()), .tpot_ms = in.tpot_ms()};
}

absl::StatusOr<SamplingParams> SamplingFromProto(const v1::SamplingSpec& in,
                                                 const CommandLimits& limits) {
  constexpr float kLargest = 1e6f;  // finite is what matters; the router has the tighter bounds
  RETURN_IF_ERROR(CheckFloat("temperature", in.temperature(), 0.0f, kLargest));
  RETURN_IF_ERROR(CheckFloat("top_p", in.top_p(), 1e-9f, 1.0f));
  RETURN_IF_ERROR(CheckFloat("min_p", in.min_p(), 0.0f, 1.0f));
  RETURN_IF_ERROR(CheckInt("top_k", in.top_k(), 0, INT32_MAX));
  RETURN_IF_ERROR(CheckFloat("presence_penalty", in.presence_penalty(), -kLargest, kLargest));
  RETURN_IF_ERROR(CheckFloat("frequency_penalty", in.frequency_penalty(), -kLargest, kLargest));
  RETURN_IF_ERROR(CheckFloat("repetition_penalty", in.repetition_penalty(), 1e-6f, kLargest));
  RETURN_IF_ERROR(CheckInt("num_logprobs", in.num_logprobs(), -1, limits.max_logprobs));
  RETURN_IF_ERROR(
      CheckInt("num_prompt_logprobs", in.num_prompt_logprobs(), -1, limits.max_logprobs));
  RETURN_IF_ERROR(
      CheckInt("the number of logit_bias entries", in.logit_bias_size(), 0, limits.max_logit_bias));
  SamplingParams out{.temperature = in.temperature(),
                     .top_p = in.top_p(),
                     .min_p = in.min_p(),
                     .top_k = in.top_k(),
                     .presence_penalty = in.presence_penalty(),
                     .frequency_penalty = in.frequency_penalty(),
                     .repetition_penalty = in.repetition_penalty(),
                     .seed = in.seed(),
                     .num_logprobs = in.num_logprobs(),
                     .num_prompt_logprobs = in.num_prompt_logprobs()};
  out.logit_bias.reserve(static_cast<size_t>(in.logit_bias_size()));
  for (const v1::LogitBias& bias : in.logit_bias()) {
    RETURN_IF_ERROR(CheckToken("logit_bias token", bias.token(), limits));
    RETURN_IF_ERROR(CheckFloat("logit_bias", bias.bias(), -kLargest, kLargest));
    out.logit_bias.emplace_back(bias.token(), bias.bias());
  }
  return out;
}

absl::StatusOr<StoppingParams> StoppingFromProto(const v1::StoppingSpec& in,
                                                 const CommandLimits& limits) {
  RETURN_IF_ERROR(CheckInt("max_tokens", in.max_tokens(), 1, limits.max_model_len));
  RETURN_IF_ERROR(CheckInt("min_tokens", in.min_tokens(), 0, in.max_tokens()));
  RETURN_IF_ERROR(CheckInt("the number of stop_token_ids", in.stop_token_ids_size(), 0,
                           limits.max_stop_tokens));
  for (const int32_t token : in.stop_token_ids()) {
    RETURN_IF_ERROR(CheckToken("stop_token_ids", token, limits));
  }
  return StoppingParams{.max_tokens = in.max_tokens(),
                        .min_tokens = in.min_tokens(),
                        .ignore_eos = in.ignore_eos(),
                        .stop_token_ids = {in.stop_token_ids().begin(), in.stop_token_ids().end()}};
}

absl::StatusOr<WorkerCommand> PrefillFromProto(const v1::Prefill& in, const CommandLimits& limits) {
  constexpr size_t kMaxTicketBytes = 256;
  constexpr size_t kMaxNameBytes = 255;
  PrefillCommand out{.key = KeyFromProto(in.key())};
  ASSIGN_OR_RETURN(out.spec, SpecFromProto(in.spec(), limits));
  ASSIGN_OR_RETURN(out.deadline, DeadlineFromMs(in.deadline_ms(), limits));
  ASSIGN_OR_RETURN(out.lease, LeaseFromMs(in.lease_ms(), limits));
  ASSIGN_OR_RETURN(out.objective, ObjectiveOf(in));
  RETURN_IF_ERROR(CheckInt("ticket bytes", static_cast<int64_t>(in.ticket().size()), 1,
                           static_cast<int64_t>(kMaxTicketBytes)));
  ASSIGN_OR_RETURN(out.ticket, DecodeTicket(in.ticket()));
  RETURN_IF_ERROR(CheckInt("first_missing_token", in.first_missing_token(), 0,
                           static_cast<int64_t>(out.spec.tokens.size())));
  out.first_missing_token = in.first_missing_token();
  const v1::KvAddress& to = in.destination();
  RETURN_IF_ERROR(CheckInt("destination port", to.port(), 1, 65535));
  RETURN_IF_ERROR(CheckInt("destination host bytes", static_cast<int64_t>(to.host().size()), 1,
                           static_cast<int64_t>(kMaxNameBytes)));
  RETURN_IF_ERROR(CheckInt("destination machine_id bytes",
                           static_cast<int64_t>(to.machine_id().size()), 0,
                           static_cast<int64_t>(kMaxNameBytes)));
  out.peer = {
      .host = to.host(), .port = to.port(), .boot_id = to.boot_id(), .machine_id = to.machine_id()};
  return WorkerCommand(std::move(out));
}

}  // namespace

RequestKey KeyFromProto(const v1::RequestKey& key) {
  return {RequestId(key.request()), key.attempt()};
}

absl::StatusOr<GenerationSpec> SpecFromProto(const v1::GenerationSpec& in,
                                             const CommandLimits& limits) {
  // One token of room: the first output token needs a place in the context.
  RETURN_IF_ERROR(CheckInt("the number of tokens", in.tokens_size(), 1, limits.max_model_len - 1));
  RETURN_IF_ERROR(CheckInt("prompt_length", in.prompt_length(), 1, in.tokens_size()));
  RETURN_IF_ERROR(CheckInt("num_samples", in.num_samples(), 1, limits.max_samples));
  RETURN_IF_ERROR(CheckInt("first_sample", in.first_sample(), 0, limits.max_samples - 1));
  if (in.prompt_length() < in.tokens_size() && in.num_samples() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_samples ", in.num_samples(), " must be 1 when output is resumed"));
  }
  for (const int32_t token : in.tokens()) RETURN_IF_ERROR(CheckToken("token", token, limits));
  GenerationSpec out{.tokens = {in.tokens().begin(), in.tokens().end()},
                     .prompt_length = in.prompt_length(),
                     .num_samples = in.num_samples(),
                     .first_sample = in.first_sample(),
                     .cache_salt = in.cache_salt()};
  ASSIGN_OR_RETURN(out.sampling, SamplingFromProto(in.sampling(), limits));
  ASSIGN_OR_RETURN(out.stopping, StoppingFromProto(in.stopping(), limits));
  const int32_t emitted = in.tokens_size() - in.prompt_length();
  if (emitted >= out.stopping.max_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("max_tokens ", out.stopping.max_tokens,
                                                   " must exceed the ", emitted,
                                                   " tokens already emitted"));
  }
  return out;
}

std::optional<RequestKey> RefusableKey(const v1::RouterMessage& message) {
  switch (message.message_case()) {
    case v1::RouterMessage::kReserve:
      return KeyFromProto(message.reserve().key());
    case v1::RouterMessage::kPrefill:
      return KeyFromProto(message.prefill().key());
    case v1::RouterMessage::kGenerate:
      return KeyFromProto(message.generate().key());
    default:
      return std::nullopt;
  }
}

absl::StatusOr<WorkerCommand> CommandFromProto(const v1::RouterMessage& message,
                                               const CommandLimits& limits) {
  switch (message.message_case()) {
    case v1::RouterMessage::kReserve: {
      const v1::Reserve& in = message.reserve();
      ReserveCommand out{.key = KeyFromProto(in.key())};
      ASSIGN_OR_RETURN(out.spec, SpecFromProto(in.spec(), limits));
      ASSIGN_OR_RETURN(out.deadline, DeadlineFromMs(in.deadline_ms(), limits));
      ASSIGN_OR_RETURN(out.lease, LeaseFromMs(in.lease_ms(), limits));
      ASSIGN_OR_RETURN(out.objective, ObjectiveOf(in));
      return WorkerCommand(std::move(out));
    }
    case v1::RouterMessage::kPrefill:
      return PrefillFromProto(message.prefill(), limits);
    case v1::RouterMessage::kGenerate: {
      const v1::Generate& in = message.generate();
      GenerateCommand out{.key = KeyFromProto(in.key())};
      ASSIGN_OR_RETURN(out.spec, SpecFromProto(in.spec(), limits));
      ASSIGN_OR_RETURN(out.deadline, DeadlineFromMs(in.deadline_ms(), limits));
      ASSIGN_OR_RETURN(out.objective, ObjectiveOf(in));
      return WorkerCommand(std::move(out));
    }
    case v1::RouterMessage::kAbort: {
      const v1::Abort& in = message.abort();
      AbortCommand out{.key = KeyFromProto(in.key())};
      if (in.has_sample()) out.sample = in.sample();
      return WorkerCommand(out);
    }
    case v1::RouterMessage::kDrain:
      return WorkerCommand(DrainCommand{});
    case v1::RouterMessage::kKvResync:
      return WorkerCommand(KvResyncCommand{});
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("unknown router message ", static_cast<int>(message.message_case())));
  }
}

}  // namespace baton
