// How an attempt or a request ends: retries, completion, errors, and the release of what they held.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "router/core/router_core.h"

namespace baton::router {
namespace {

SloResult ResultOfError(RequestErrorCode code) {
  switch (code) {
    case RequestErrorCode::kInvalid:
    case RequestErrorCode::kContextLength:
    case RequestErrorCode::kOverloaded:
    case RequestErrorCode::kNeverFits:
    case RequestErrorCode::kNoWorkers:
    case RequestErrorCode::kDraining:
      return SloResult::kRejected;
    case RequestErrorCode::kAborted:
      return SloResult::kAborted;
    case RequestErrorCode::kPrefillLost:
    case RequestErrorCode::kDecodeLost:
    case RequestErrorCode::kKvExhausted:
    case RequestErrorCode::kQuarantined:
    case RequestErrorCode::kDeadline:
    case RequestErrorCode::kInternal:
      break;
  }
  return SloResult::kError;
}

}  // namespace

void RouterCore::Move(RequestState& request, Trigger trigger) {
  const std::optional<Phase> next = NextPhase(request.phase, trigger);
  BATON_CHECK(next.has_value()) << "request " << request.id << " in phase "
                                << static_cast<int>(request.phase) << " got trigger "
                                << static_cast<int>(trigger);
  --in_phase_[static_cast<size_t>(request.phase)];
  if (*next != Phase::kDone) ++in_phase_[static_cast<size_t>(*next)];
  request.phase = *next;
  request.phase_since = now_;
  if (*next != Phase::kDone) SetTimer(request);
}

// ------------------------------------------------------------------ the end of an attempt

void RouterCore::AbortOnWorkers(RequestState& request) {
  const RequestKey key{request.id, request.attempt};
  if (options_.mutations.lose_abort) request.decode_open = request.prefill_open = false;
  if (std::exchange(request.decode_open, false)) {
    actions_.push_back(SendAbort{request.decode, key});
  }
  if (std::exchange(request.prefill_open, false)) {
    actions_.push_back(SendAbort{request.prefill, key});
  }
}

void RouterCore::ReturnCredit(RequestState& request) {
  if (!std::exchange(request.holds_credit, false)) return;
  cluster_.ReturnCredit(now_, request.prefill, request.prefill_cost_ms);
  dispatch_due_ = true;
}

void RouterCore::ReleaseAttempt(RequestState& request) {
  ReturnCredit(request);
  if (std::exchange(request.probes_pair, false)) {
    pairs_.ProbeEnded({request.prefill, request.decode});
  }
  if (request.decode != kNoWorker) {
    cluster_.RemoveRow(request.decode, std::exchange(request.decode_slot, -1));
    dispatch_due_ = true;
  }
  request.prefill = kNoWorker;
  request.decode = kNoWorker;
}

// REQUIRES: AbortOnWorkers was called.
void RouterCore::Requeue(RequestState& request) {
  ReleaseHeld(request);
  ReleaseAttempt(request);
  request.sequencer.StartAttempt();
  request.queue_entry.returned = request.lost_attempts > 0;
  queue_.Push(now_, request.queue_entry);
  Move(request, Trigger::kRequeue);
}

void RouterCore::AttemptLost(RequestState& request, const Loss& loss) {
  const bool dispatched = request.phase != Phase::kReserving;
  const bool in_place = request.in_place();
  const RequestErrorCode code =
      loss.side == Side::kPrefill ? RequestErrorCode::kPrefillLost : RequestErrorCode::kDecodeLost;
  if (loss.between) {
    const bool probe = std::exchange(request.probes_pair, false);
    pairs_.Failed(now_, {request.prefill, request.decode}, probe);
  }
  // The next attempt goes elsewhere: where it is not known whose fault it was, on both sides.
  if (loss.between || loss.side == Side::kPrefill) AddOnce(&request.avoid, request.prefill);
  if (loss.between || loss.side == Side::kDecode) AddOnce(&request.avoid, request.decode);
  if (options_.mutations.retry_without_abort) request.decode_open = request.prefill_open = false;
  AbortOnWorkers(request);
  if (loss.worker_died && ++request.worker_deaths >= options_.max_worker_deaths) {
    Fail(request, RequestErrorCode::kQuarantined,
         absl::StrCat("the request was on ", request.worker_deaths,
                      " workers as they died; it is not tried again"));
    return;
  }
  if (!dispatched && loss.worker_died) {
    // The decode worker had not answered: the request only waits on.
    Requeue(request);
    return;
  }
  if (++request.lost_attempts >= options_.max_attempts) {
    Fail(request, code,
         absl::StrCat(loss.message, "; attempt ", request.lost_attempts, " of ",
                      options_.max_attempts));
    return;
  }
  // A prefill worker's loss may be waited out; what a decode worker held is open towards the
  // client and ends at once when nobody can take it over.
  if (loss.side == Side::kDecode && loss.worker_died && !cluster_.CanServe() &&
      (in_place || !cluster_.Accepting(Role::kDecode))) {
    Fail(request, code, absl::StrCat(loss.message, "; no other worker can take over"));
    return;
  }
  if (!retries_.TryTake()) {
    Fail(request, code, absl::StrCat(loss.message, "; the retry budget is spent"));
    return;
  }
  request.lost_code = code;
  ResumeSpec(request);
  Requeue(request);
}

// What the next attempt computes; see the header comment. Prompt logprobs are not asked for twice.
void RouterCore::ResumeSpec(RequestState& request) {
  auto spec = std::make_shared<GenerationSpec>(*request.spec);
  if (request.prompt_logprobs_out) spec->sampling.num_prompt_logprobs = -1;
  if (spec->num_samples == 1) {
    const std::vector<TokenId>& emitted = request.sequencer.tokens(spec->first_sample);
    if (emitted.size() > 1) {
      spec->tokens.insert(spec->tokens.end(), emitted.begin(), emitted.end() - 1);
      if (options_.mutations.resume_off_by_one) spec->tokens.push_back(emitted.front());
    }
  }
  request.attempt_spec = std::move(spec);
}

// ------------------------------------------------------------------ the end of a request

void RouterCore::Complete(RequestState& request) {
  ReleaseHeld(request);
  // Unless every sample ended by the worker's own Finished, it is still at work on the key.
  const bool workers_ended =
      request.stopped_samples.empty() &&
      (request.phase == Phase::kDecoding || request.phase == Phase::kGenerating);
  if (request.phase == Phase::kQueued) queue_.Remove(request.id);
  if (!workers_ended) AbortOnWorkers(request);
  CompleteRequest done{.request = request.id, .summary = Summarize(request)};
  done.outcome =
      JudgeSlo(request.slo, request.TtftMs().value_or(0), request.TpotMs(), request.stages);
  done.outcome.slo_class = request.slo_class;
  done.prediction = request.prediction;
  const StoppingParams& stopping = request.spec->stopping;
  for (const SampleClock& clock : request.clocks) {
    if (!stopping.ignore_eos) lengths_.Observe(stopping.max_tokens, clock.tokens);
  }
  if (options_.mutations.complete_twice) actions_.push_back(done);
  actions_.push_back(std::move(done));
  ReleaseAttempt(request);
  Move(request, Trigger::kSamplesEnded);
  Erase(request);
}

void RouterCore::Fail(RequestState& request, RequestErrorCode code, std::string message,
                      Verdict verdict) {
  if (request.phase == Phase::kQueued) {
    queue_.Remove(request.id);
    dispatch_due_ = true;  // it may have been the one that could not start
  } else {
    AbortOnWorkers(request);
    ReleaseAttempt(request);
  }
  FailRequest failed{
      .request = request.id,
      .error = {.code = code, .message = std::move(message)},
      .outcome = {
          .result = ResultOfError(code), .target = request.slo, .slo_class = request.slo_class}};
  failed.verdict = verdict;
  if (code == RequestErrorCode::kNoWorkers) failed.error.retry_after = options_.no_worker_wait;
  if (code == RequestErrorCode::kOverloaded) failed.error.retry_after = RetryAfter();
  actions_.push_back(std::move(failed));
  Move(request, Trigger::kEndWithError);
  Erase(request);
}

void RouterCore::RejectNew(const SubmitEvent& event, RequestErrorCode code, std::string message) {
  Refuse(event, Verdict::kAdmit, {.code = code, .message = std::move(message)});
}

void RouterCore::Refuse(const SubmitEvent& event, Verdict verdict, RequestError error) {
  const SloResult result = ResultOfError(error.code);
  actions_.push_back(
      FailRequest{.request = event.request,
                  .error = std::move(error),
                  .outcome = {.result = result, .target = event.slo, .slo_class = event.slo_class},
                  .verdict = verdict});
}

void RouterCore::Erase(RequestState& request) {
  timers_.erase({request.timer, request.id});
  requests_.erase(RequestId(request.id));
}

RequestSummary RouterCore::Summarize(const RequestState& request) const {
  RequestSummary summary;
  summary.prompt_tokens = request.spec->prompt_length;
  summary.completion_tokens = static_cast<int32_t>(request.sequencer.total_tokens());
  summary.cached_tokens = std::min(request.cached_tokens, request.spec->prompt_length);
  RequestTimings& timings = summary.timings;
  timings.queue_ms = request.stages.queue_ms;
  timings.reserve_ms = request.stages.reserve_ms;
  timings.prefill_ms = request.stages.prefill_ms;
  timings.transfer_ms = request.stages.transfer_ms;
  timings.transfer_exposed_ms = request.stages.transfer_exposed_ms;
  timings.decode_queue_ms = request.stages.decode_queue_ms;
  timings.decode_ms = request.stages.decode_ms;
  timings.ttft_ms = request.TtftMs().value_or(0);
  timings.tpot_ms = request.TpotMs().value_or(0);
  timings.total_ms = absl::ToDoubleMilliseconds(now_ - request.arrival);
  timings.kv_bytes = request.kv_bytes;
  timings.prefill_worker = request.prefill_name;
  timings.decode_worker = request.decode_name;
  timings.transport = request.transport;
  timings.attempts = request.lost_attempts + 1;
  return summary;
}

}  // namespace baton::router
