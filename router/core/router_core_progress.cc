// What workers say of the requests that they hold.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "router/core/router_core.h"

namespace baton::router {
namespace {

constexpr double kAverageWeight = 0.1;

double MovingAverage(double average, double value) {
  return average == 0 ? value : (1 - kAverageWeight) * average + kAverageWeight * value;
}

}  // namespace

// Null unless the event is of the current session, of the current attempt, and from a worker that
// takes part in it.
RequestState* RouterCore::Current(const WorkerOrigin& from, const RequestKey& key) {
  if (!cluster_.IsCurrent(from)) return nullptr;
  const auto found = requests_.find(key.request);
  if (found == requests_.end()) return nullptr;
  RequestState& request = *found->second;
  if (request.phase == Phase::kQueued || request.attempt != key.attempt) return nullptr;
  if (request.prefill != from.worker && request.decode != from.worker) return nullptr;
  return &request;
}

void RouterCore::On(const ReservedEvent& event) {
  RequestState* request = Current(event.from, event.key);
  if (request == nullptr || request->phase != Phase::kReserving) return;
  const double reserve_ms = absl::ToDoubleMilliseconds(now_ - request->phase_since);
  request->stages.reserve_ms += reserve_ms;
  links_.ObserveReserve(reserve_ms);
  Move(*request, Trigger::kReserved);
  request->prefill_open = true;
  actions_.push_back(SendPrefill{.worker = request->prefill,
                                 .key = event.key,
                                 .spec = request->attempt_spec,
                                 .time_left = request->deadline - now_,
                                 .lease = options_.handoff_lease,
                                 .ticket = event.ticket,
                                 .first_missing_token = event.first_missing_token,
                                 .destination = cluster_.worker(request->decode).info.kv,
                                 .objective = request->ObjectiveAt(now_)});
}

void RouterCore::On(const RefusedEvent& event) {
  const WorkerIndex worker = event.from.worker;
  RequestState* request = Current(event.from, event.key);
  // Worth knowing even if the request has ended meanwhile. In place it is prompts that are too many
  // (below), not rows.
  const bool in_place = request != nullptr && request->in_place();
  if (event.reason == RefusalReason::kNoRoom && cluster_.IsCurrent(event.from) &&
      cluster_.worker(worker).info.role == Role::kDecode && !in_place) {
    cluster_.RefusedForRoom(now_, worker);
  }
  if (request == nullptr) return;
  const bool by_decode = worker == request->decode;
  (by_decode ? request->decode_open : request->prefill_open) = false;
  dispatch_due_ = true;
  switch (event.reason) {
    case RefusalReason::kNoRoom:
      break;
    case RefusalReason::kDraining:
      cluster_.SetDraining(worker);
      break;
    case RefusalReason::kNeverFits:
      AddOnce(&request->never, worker);
      if (!CouldEverFit(cluster_, request->never)) {
        Fail(*request, RequestErrorCode::kNeverFits,
             absl::StrCat("the request is larger than the KV cache of any worker in service: ",
                          event.message));
        return;
      }
      break;
    case RefusalReason::kStaleAttempt:
      AttemptLost(*request, {by_decode ? Side::kDecode : Side::kPrefill, false, event.message});
      return;
    case RefusalReason::kInvalid:
      Fail(*request, RequestErrorCode::kInternal,
           absl::StrCat("a worker refused the request as invalid: ", event.message));
      return;
  }
  AbortOnWorkers(*request);
  Requeue(*request);
  // After Requeue, which gives the credit back: this worker has just said that it has none.
  if (event.reason == RefusalReason::kNoRoom && (!by_decode || in_place)) {
    cluster_.NoCreditsUntilReport(worker);
  }
  if (could_serve_ && !cluster_.CanServe()) cannot_serve_since_ = now_;
  could_serve_ = cluster_.CanServe();
}

void RouterCore::On(PromptLogprobsEvent event) {
  RequestState* request = Current(event.from, event.key);
  if (request == nullptr || request->prompt_logprobs_out) return;
  request->prompt_logprobs_out = true;
  actions_.push_back(EmitPromptLogprobs{request->id, std::move(event.tokens)});
}

void RouterCore::On(TokensEvent event) {
  RequestState* request = Current(event.from, event.key);
  if (request == nullptr || request->phase == Phase::kReserving) return;
  std::vector<TokenOutput> ready;
  if (options_.mutations.repeat_tokens && request->lost_attempts > 0) ready = event.tokens;
  for (TokenOutput& token : event.tokens) {
    if (const absl::Status status = request->sequencer.Push(std::move(token), &ready);
        !status.ok()) {
      Fail(*request, RequestErrorCode::kInternal, std::string(View(status.message())));
      return;
    }
  }
  if (MayHold(*request, event.from)) {
    for (TokenOutput& token : ready) request->held.push_back(std::move(token));
    SetTimer(*request);
  } else if (!ready.empty()) {
    ReleaseHeld(*request);
    EmitReady(*request, std::move(ready));
  }
  // Where prefill and decode are one, the credit is held until the first token.
  if (request->in_place()) ReturnCredit(*request);
  EmitFinishesAndCheck(*request);
}

// First tokens go out at once, but for one case: a decode worker that prefills in place lets a new
// row in after its step, which can be many TPOTs away. They wait for their row then, as long as the
// TTFT objective allows: the stream begins later and runs evenly.
bool RouterCore::MayHold(const RequestState& request, const WorkerOrigin& from) const {
  return !request.in_place() && from.worker == request.prefill && !request.joined &&
         request.lost_attempts == 0 && request.spec->stopping.max_tokens > 1 &&
         now_ < request.HoldUntil() && cluster_.worker(request.decode).prefill.busy();
}

void RouterCore::ReleaseHeld(RequestState& request) {
  if (!request.held.empty()) EmitReady(request, std::exchange(request.held, {}));
}

void RouterCore::On(const JoinedEvent& event) {
  RequestState* request = Current(event.from, event.key);
  if (request == nullptr || event.from.worker != request->decode) return;
  request->joined = true;
  ReleaseHeld(*request);
}

void RouterCore::EmitReady(RequestState& request, std::vector<TokenOutput> ready) {
  for (TokenOutput& token : ready) {
    SampleClock& clock =
        request.clocks[static_cast<size_t>(token.sample - request.spec->first_sample)];
    if (clock.tokens == 0) clock.first_token = now_;
    clock.last_token = now_;
    ++clock.tokens;
    actions_.push_back(EmitToken{request.id, std::move(token)});
  }
  if (request.decode_slot < 0 || ready.empty()) return;
  if (request.in_place()) cluster_.StartRow(now_, request.decode, request.decode_slot);
  cluster_.CountTokens(request.decode, request.decode_slot, static_cast<int32_t>(ready.size()));
}

// Ends the samples whose tokens are all out, and the request with its last sample. What is still
// missing must be on its way from the prefill worker; else it will never come.
void RouterCore::EmitFinishesAndCheck(RequestState& request) {
  for (const SampleFinish& finish : request.sequencer.TakeFinishes()) {
    ReleaseHeld(request);
    actions_.push_back(EmitSampleFinish{request.id, finish});
  }
  const bool may_still_come = !request.in_place() && !request.prefill_reported;
  if (request.sequencer.AllEnded()) {
    // PrefillDone was sent before the KV's last byte: it is a moment away, and has the times.
    if (may_still_come && request.stopped_samples.empty()) return;
    Complete(request);
    return;
  }
  if (request.sequencer.HasGap() && !may_still_come) {
    Fail(request, RequestErrorCode::kInternal, "a token is missing from the workers' streams");
  }
}

void RouterCore::On(const PrefillDoneEvent& event) {
  RequestState* request = Current(event.from, event.key);
  if (request == nullptr || request->phase == Phase::kReserving || request->prefill_reported ||
      event.from.worker != request->prefill) {
    return;
  }
  request->prefill_reported = true;
  request->stages.queue_ms += event.queue_ms;
  request->stages.prefill_ms += event.prefill_ms;
  if (request->lost_attempts == 0) {
    request->cached_tokens = std::max(request->cached_tokens, event.cached_tokens);
  }
  const auto computed =
      static_cast<double>(request->attempt_spec->tokens.size()) - event.cached_tokens;
  if (computed >= 1) {
    prefill_ms_per_token_ = MovingAverage(prefill_ms_per_token_, event.prefill_ms / computed);
  }
  ReturnCredit(*request);
  if (request->phase == Phase::kPrefilling) Move(*request, Trigger::kPrefillDone);
  EmitFinishesAndCheck(*request);
}

void RouterCore::On(const SealedEvent& event) {
  RequestState* request = Current(event.from, event.key);
  if (request == nullptr || event.from.worker != request->decode) return;
  if (!NextPhase(request->phase, Trigger::kSealed).has_value()) return;
  request->stages.transfer_ms += event.transfer_ms;
  request->stages.transfer_exposed_ms += event.transfer_exposed_ms;
  request->kv_bytes += event.kv_bytes;
  request->transport = event.transport;
  if (request->lost_attempts == 0) {
    request->cached_tokens = std::max(request->cached_tokens, event.cached_tokens);
  }
  const WorkerInfo& from = cluster_.worker(request->prefill).info;
  const WorkerInfo& to = cluster_.worker(request->decode).info;
  links_.Observe({request->prefill, request->decode,
                  !from.kv.machine_id.empty() && from.kv.machine_id == to.kv.machine_id},
                 static_cast<int64_t>(request->attempt_spec->tokens.size()) - event.cached_tokens,
                 event.transfer_ms, event.transfer_exposed_ms);
  if (std::exchange(request->probes_pair, false)) {
    const WorkerPair pair{request->prefill, request->decode};
    event.kv_bytes > 0 ? pairs_.ProbeSealed(pair) : pairs_.ProbeEnded(pair);
  }
  Move(*request, Trigger::kSealed);
  cluster_.StartRow(now_, request->decode, request->decode_slot);
  for (const int32_t sample : request->stopped_samples) {
    actions_.push_back(SendAbort{request->decode, event.key, sample});
  }
}

void RouterCore::On(const FinishedEvent& event) {
  RequestState* request = Current(event.from, event.key);
  if (request == nullptr || request->phase == Phase::kReserving) return;
  StageTimes& stages = request->stages;
  stages.decode_queue_ms = std::max(stages.decode_queue_ms, event.decode_queue_ms);
  stages.decode_ms = std::max(stages.decode_ms, event.decode_ms);
  if (request->in_place()) {
    stages.prefill_ms = std::max(stages.prefill_ms, event.prefill_ms);
    if (request->lost_attempts == 0) {
      request->cached_tokens = std::max(request->cached_tokens, event.cached_tokens);
    }
    if (!request->prefill_reported) {  // once an attempt, though each sample says it
      request->prefill_reported = true;
      stages.queue_ms += event.queue_ms;
    }
  }
  if (event.finish.reason == FinishReason::kAborted) {
    // The answer to our abort of one sample, which has ended here; nobody else may abort one.
    if (!request->sequencer.ended(event.finish.sample)) {
      AttemptLost(*request, {Side::kDecode, false, "a worker aborted a sample unasked"});
    }
    return;
  }
  if (const absl::Status status = request->sequencer.Finish(event.finish); !status.ok()) {
    Fail(*request, RequestErrorCode::kInternal, std::string(View(status.message())));
    return;
  }
  dispatch_due_ = true;
  EmitFinishesAndCheck(*request);
}

void RouterCore::On(const FailedEvent& event) {
  RequestState* request = Current(event.from, event.key);
  if (request == nullptr) return;
  const bool by_decode = event.from.worker == request->decode;
  (by_decode ? request->decode_open : request->prefill_open) = false;
  const bool in_place = request->in_place();
  if (in_place) request->prefill_open = false;
  dispatch_due_ = true;
  const std::string message =
      absl::StrCat("worker ", cluster_.worker(event.from.worker).info.id, ": ",
                   View(FailureReasonName(event.reason)),
                   event.message.empty() ? "" : absl::StrCat(" (", event.message, ")"));
  if (!by_decode && request->phase == Phase::kDecoding) {
    PrefillLost(*request, {Side::kPrefill, false, message});  // after the seal: rarely missed
    return;
  }
  switch (event.reason) {
    case FailureReason::kDeadline:
      Fail(*request, RequestErrorCode::kDeadline,
           absl::StrCat("the deadline passed while the request was ",
                        View(PhaseName(request->phase))));
      return;
    case FailureReason::kKvExhausted:
      Fail(*request, RequestErrorCode::kKvExhausted, message);
      return;
    case FailureReason::kInvalid:
      Fail(*request, RequestErrorCode::kInternal, message);
      return;
    case FailureReason::kPeerLost:
      // The reporter lives: it is the other side that is gone, or what is between them.
      AttemptLost(*request,
                  {by_decode ? Side::kPrefill : Side::kDecode, false, message, !in_place});
      return;
    case FailureReason::kChecksum:
      // The client is told that the prompt was lost: its KV did not arrive as it was sent.
      AttemptLost(*request, {Side::kPrefill, false, message, !in_place});
      return;
    case FailureReason::kTicketRefused:
      AttemptLost(*request,
                  {by_decode ? Side::kDecode : Side::kPrefill, false, message, !in_place});
      return;
    case FailureReason::kLeaseExpired:
      // What did not arrive in time is charged to the sender.
      AttemptLost(*request, {Side::kPrefill, false, message});
      return;
    case FailureReason::kAborted:
    case FailureReason::kInternal:
      AttemptLost(*request, {by_decode ? Side::kDecode : Side::kPrefill, false, message});
      return;
  }
}

}  // namespace baton::router
