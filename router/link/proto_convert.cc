// What workers say: checked, and in the words of the core.
#include "router/link/proto_convert.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "proto/baton/v1/worker.pb.h"

namespace baton::router {
namespace {

// More than any worker sends in one message: a step's tokens of one request, or its prompt's.
constexpr int kMaxTokensInMessage = 4 << 20;
constexpr int kMaxTopLogprobs = 4096;

RequestKey KeyOf(const v1::RequestKey& key) { return {RequestId(key.request()), key.attempt()}; }

absl::Status Invalid(std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("worker sent ", std::string(what)));
}

// Times and amounts of work are for accounting only: nonsense becomes zero.
double Milliseconds(double value) { return std::isfinite(value) && value > 0 ? value : 0; }

// Coefficients that make no sense are as good as none.
StepModel StepModelOf(const v1::StepModel& model) {
  const double coefficients[] = {model.prefill_base_ms(), model.prefill_token_ms(),
                                 model.prefill_pair_ms(), model.decode_base_ms(),
                                 model.decode_row_ms(),   model.decode_context_ms()};
  for (const double value : coefficients) {
    if (!std::isfinite(value) || value < 0) return {};
  }
  return {.prefill_base_ms = model.prefill_base_ms(),
          .prefill_token_ms = model.prefill_token_ms(),
          .prefill_pair_ms = model.prefill_pair_ms(),
          .decode_base_ms = model.decode_base_ms(),
          .decode_row_ms = model.decode_row_ms(),
          .decode_context_ms = model.decode_context_ms(),
          .profiled_prefill_tokens = model.profiled_prefill_tokens(),
          .profiled_decode_rows = model.profiled_decode_rows(),
          .profiled_context_tokens = model.profiled_context_tokens()};
}

// A worker that says nothing of it, or nonsense, is taken at its model's word. One that tells fewer
// sizes than we know: the last one goes on.
SizeFactors FactorsOf(const google::protobuf::RepeatedField<float>& told) {
  SizeFactors factors;
  float factor = 1;
  for (int i = 0; i < SizeFactors::kSizes; ++i) {
    if (i < told.size()) {
      const bool sane = std::isfinite(told[i]) && told[i] > 0;
      factor = sane ? std::clamp(told[i], 0.01f, 100.0f) : 1.0f;
    }
    factors.at[static_cast<size_t>(i)] = factor;
  }
  return factors;
}

KvEndpoint EndpointOf(v1::KvAddress& address) {
  return {.host = std::move(*address.mutable_host()),
          .port = address.port(),
          .boot = BootId(address.boot_id()),
          .layout_fingerprint = address.layout_fingerprint(),
          .machine_id = std::move(*address.mutable_machine_id())};
}

absl::StatusOr<Event> FromWelcome(const WorkerOrigin& from, v1::Welcome& welcome) {
  WorkerUpEvent event{.from = from};
  WorkerInfo& info = event.info;
  switch (welcome.role()) {
    case v1::WORKER_ROLE_PREFILL:
      info.role = Role::kPrefill;
      break;
    case v1::WORKER_ROLE_DECODE:
      info.role = Role::kDecode;
      break;
    case v1::WORKER_ROLE_BOTH:
      info.role = Role::kBoth;
      break;
    default:
      return Invalid("Welcome with an unknown role");
  }
  if (welcome.block_size() <= 0 || welcome.max_model_len() <= 0 || welcome.vocab_size() <= 0 ||
      welcome.total_blocks() < 0 || welcome.prefill_credits() < 0) {
    return Invalid("Welcome with a size out of range");
  }
  info.id = std::move(*welcome.mutable_worker_id());
  info.boot = BootId(welcome.boot_id());
  info.protocol_version = welcome.protocol_version();
  info.model_fingerprint = welcome.model_fingerprint();
  info.model_name = std::move(*welcome.mutable_model_name());
  info.vocab_size = welcome.vocab_size();
  info.max_model_len = welcome.max_model_len();
  info.block_size = welcome.block_size();
  info.total_blocks = welcome.total_blocks();
  info.max_batch_sequences = welcome.max_batch_sequences();
  info.max_batch_tokens = welcome.max_batch_tokens();
  info.prefill_credits = welcome.prefill_credits();
  info.paced_prefill = welcome.paced_prefill();
  info.kv = EndpointOf(*welcome.mutable_kv_address());
  info.step_model = StepModelOf(welcome.step_model());
  return event;
}

// Of one state. More than any pool holds, and few enough to be added up.
int32_t Blocks(int32_t count) { return std::clamp(count, 0, 1 << 28); }

Event FromStatus(const WorkerOrigin& from, const v1::WorkerStatus& status) {
  const v1::BlockCensus& blocks = status.blocks();
  WorkerReportEvent event{.from = from};
  event.report = {.steps_completed = status.steps_completed(),
                  .current_step_age_ms = Milliseconds(status.current_step_age_ms()),
                  .running = std::max(0, status.running()),
                  .waiting = std::max(0, status.waiting()),
                  .free_blocks = Blocks(blocks.free()),
                  .cached_blocks = Blocks(blocks.cached()),
                  .busy_blocks = Blocks(blocks.reserved()) + Blocks(blocks.landing()) +
                                 Blocks(blocks.sealed()) + Blocks(blocks.in_use()) +
                                 Blocks(blocks.quarantined()),
                  .credits = status.credits(),
                  .step_ms_ewma = Milliseconds(status.step_ms_ewma()),
                  .step_time = {.measured_ms = Milliseconds(status.step_ms_total()),
                                .calibrated_ms = Milliseconds(status.calibrated_step_ms_total())},
                  .draining = status.draining(),
                  .prefill_factors = FactorsOf(status.prefill_factors()),
                  .decode_factors = FactorsOf(status.decode_factors()),
                  .decode_rows = std::max(0, status.decode_rows()),
                  .decode_context = std::max<int64_t>(0, status.decode_context_tokens()),
                  .prefill_tokens_left = std::max<int64_t>(0, status.prefill_tokens_left()),
                  .prefill_pairs_left = Milliseconds(status.prefill_pairs_left())};
  return event;
}

absl::StatusOr<std::vector<TokenOutput>> FromTokens(
    google::protobuf::RepeatedPtrField<v1::TokenOutput>& tokens) {
  if (tokens.size() > kMaxTokensInMessage) return Invalid("too many tokens in one message");
  std::vector<TokenOutput> out;
  out.reserve(static_cast<size_t>(tokens.size()));
  for (v1::TokenOutput& token : tokens) {
    if (token.sample() < 0 || token.index() < 0 || token.token() < 0) {
      return Invalid("a token with a negative sample, index or id");
    }
    if (token.top_logprobs_size() > kMaxTopLogprobs) return Invalid("too many top logprobs");
    TokenOutput converted{.sample = token.sample(),
                          .index = token.index(),
                          .token = token.token(),
                          .logprob = token.logprob()};
    converted.top_logprobs.reserve(static_cast<size_t>(token.top_logprobs_size()));
    for (const v1::TokenLogprob& top : token.top_logprobs()) {
      converted.top_logprobs.push_back({top.token(), top.logprob()});
    }
    out.push_back(std::move(converted));
  }
  return out;
}

absl::StatusOr<Event> FromRefused(const WorkerOrigin& from, v1::Refused& refused) {
  RefusedEvent event{
      .from = from, .key = KeyOf(refused.key()), .message = std::move(*refused.mutable_message())};
  switch (refused.reason()) {
    case v1::Refused::NO_ROOM:
      event.reason = RefusalReason::kNoRoom;
      return event;
    case v1::Refused::NEVER_FITS:
      event.reason = RefusalReason::kNeverFits;
      return event;
    case v1::Refused::DRAINING:
      event.reason = RefusalReason::kDraining;
      return event;
    case v1::Refused::STALE_ATTEMPT:
      event.reason = RefusalReason::kStaleAttempt;
      return event;
    case v1::Refused::INVALID:
      event.reason = RefusalReason::kInvalid;
      return event;
    default:
      return Invalid("Refused with an unknown reason");
  }
}

FailureReason ReasonOf(v1::Failed::Reason reason) {
  switch (reason) {
    case v1::Failed::ABORTED:
      return FailureReason::kAborted;
    case v1::Failed::PEER_LOST:
      return FailureReason::kPeerLost;
    case v1::Failed::CHECKSUM:
      return FailureReason::kChecksum;
    case v1::Failed::LEASE_EXPIRED:
      return FailureReason::kLeaseExpired;
    case v1::Failed::DEADLINE:
      return FailureReason::kDeadline;
    case v1::Failed::KV_EXHAUSTED:
      return FailureReason::kKvExhausted;
    case v1::Failed::INVALID:
      return FailureReason::kInvalid;
    case v1::Failed::TICKET_REFUSED:
      return FailureReason::kTicketRefused;
    default:
      return FailureReason::kInternal;
  }
}

absl::StatusOr<Event> FromFinished(const WorkerOrigin& from, const v1::Finished& finished) {
  if (finished.sample() < 0 || finished.output_tokens() < 0) {
    return Invalid("Finished with a negative sample or count");
  }
  FinishedEvent event{.from = from, .key = KeyOf(finished.key())};
  event.finish = {.sample = finished.sample(),
                  .stop_token = finished.stop_token(),
                  .output_tokens = finished.output_tokens()};
  if (finished.finish_reason() == FinishReasonName(FinishReason::kStop)) {
    event.finish.reason = FinishReason::kStop;
  } else if (finished.finish_reason() == FinishReasonName(FinishReason::kLength)) {
    event.finish.reason = FinishReason::kLength;
  } else if (finished.finish_reason() == FinishReasonName(FinishReason::kAborted)) {
    event.finish.reason = FinishReason::kAborted;  // the answer to Abort{sample}
  } else {
    return Invalid("Finished with an unknown finish_reason");
  }
  event.cached_tokens = std::max(0, finished.cached_tokens());
  event.decode_queue_ms = Milliseconds(finished.decode_queue_ms());
  event.decode_ms = Milliseconds(finished.decode_ms());
  event.queue_ms = Milliseconds(finished.queue_ms());
  event.prefill_ms = Milliseconds(finished.prefill_ms());
  return event;
}

}  // namespace

absl::StatusOr<Event> FromProto(const WorkerOrigin& from, v1::WorkerMessage& message) {
  switch (message.message_case()) {
    case v1::WorkerMessage::kWelcome:
      return FromWelcome(from, *message.mutable_welcome());
    case v1::WorkerMessage::kStatus:
      return FromStatus(from, message.status());
    case v1::WorkerMessage::kReserved: {
      v1::Reserved& reserved = *message.mutable_reserved();
      if (reserved.first_missing_token() < 0) return Invalid("Reserved with a negative token");
      return ReservedEvent{from, KeyOf(reserved.key()), std::move(*reserved.mutable_ticket()),
                           reserved.first_missing_token()};
    }
    case v1::WorkerMessage::kRefused:
      return FromRefused(from, *message.mutable_refused());
    case v1::WorkerMessage::kTokens: {
      v1::Tokens& tokens = *message.mutable_tokens();
      ASSIGN_OR_RETURN(std::vector<TokenOutput> list, FromTokens(*tokens.mutable_tokens()));
      return TokensEvent{from, KeyOf(tokens.key()), std::move(list)};
    }
    case v1::WorkerMessage::kPromptLogprobs: {
      v1::PromptLogprobs& tokens = *message.mutable_prompt_logprobs();
      ASSIGN_OR_RETURN(std::vector<TokenOutput> list, FromTokens(*tokens.mutable_tokens()));
      return PromptLogprobsEvent{from, KeyOf(tokens.key()), std::move(list)};
    }
    case v1::WorkerMessage::kPrefillDone: {
      const v1::PrefillDone& done = message.prefill_done();
      return PrefillDoneEvent{from, KeyOf(done.key()), std::max(0, done.cached_tokens()),
                              Milliseconds(done.queue_ms()), Milliseconds(done.prefill_ms())};
    }
    case v1::WorkerMessage::kSealed: {
      v1::Sealed& sealed = *message.mutable_sealed();
      return SealedEvent{from,
                         KeyOf(sealed.key()),
                         std::max<int64_t>(0, sealed.kv_bytes()),
                         Milliseconds(sealed.transfer_ms()),
                         Milliseconds(sealed.transfer_exposed_ms()),
                         std::move(*sealed.mutable_transport()),
                         std::max(0, sealed.cached_tokens())};
    }
    case v1::WorkerMessage::kJoined:
      return JoinedEvent{from, KeyOf(message.joined().key())};
    case v1::WorkerMessage::kFinished:
      return FromFinished(from, message.finished());
    case v1::WorkerMessage::kFailed: {
      v1::Failed& failed = *message.mutable_failed();
      return FailedEvent{from, KeyOf(failed.key()), ReasonOf(failed.reason()),
                         std::move(*failed.mutable_message())};
    }
    case v1::WorkerMessage::kKvEvents: {
      const v1::KvEvents& events = message.kv_events();
      return KvCacheEvent{from,
                          events.sequence(),
                          events.snapshot(),
                          {events.removed().begin(), events.removed().end()},
                          {events.stored().begin(), events.stored().end()}};
    }
    case v1::WorkerMessage::kBatch:
      return Invalid("a batch in a batch");
    case v1::WorkerMessage::MESSAGE_NOT_SET:
      break;
  }
  return Invalid("an empty message");
}

absl::StatusOr<std::vector<Event>> EventsFromProto(const WorkerOrigin& from,
                                                   v1::WorkerMessage& message) {
  std::vector<Event> events;
  if (!message.has_batch()) {
    ASSIGN_OR_RETURN(Event event, FromProto(from, message));
    events.push_back(std::move(event));
    return events;
  }
  auto& messages = *message.mutable_batch()->mutable_messages();
  if (messages.empty() || messages.size() > kMaxBatchMessages) {
    return Invalid(absl::StrCat("a batch of ", messages.size(), " messages"));
  }
  events.reserve(static_cast<size_t>(messages.size()));
  for (v1::WorkerMessage& each : messages) {
    if (each.has_welcome()) return Invalid("Welcome in a batch");
    ASSIGN_OR_RETURN(Event event, FromProto(from, each));
    events.push_back(std::move(event));
  }
  return events;
}

}  // namespace baton::router
