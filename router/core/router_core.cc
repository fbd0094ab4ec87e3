#include "router/core/router_core.h"

#include <algorithm>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton::router {
namespace {

int64_t SpecBytes(const GenerationSpec& spec) {
  return static_cast<int64_t>(spec.tokens.size() * sizeof(TokenId) + sizeof(GenerationSpec));
}

}  // namespace

RouterCore::RouterCore(const CoreOptions& options)
    : options_(options),
      cluster_(options.cluster),
      queue_(options.queue),
      affinity_(options.affinity_entries),
      retries_(options.retry_ratio, options.retry_capacity) {}

std::vector<Action> RouterCore::Handle(absl::Time now, Event event) {
  now_ = std::max(now_, now);
  if (cannot_serve_since_ == absl::InfinitePast()) cannot_serve_since_ = now_;
  std::visit([this](auto&& e) { On(std::forward<decltype(e)>(e)); }, std::move(event));
  DispatchQueued();
  return std::exchange(actions_, {});
}

std::vector<Action> RouterCore::Tick(absl::Time now) {
  now_ = std::max(now_, now);
  if (cannot_serve_since_ == absl::InfinitePast()) cannot_serve_since_ = now_;
  for (const WorkerIndex worker : cluster_.Overdue(now_)) {
    const SessionId session = cluster_.worker(worker).session;
    const bool silent = cluster_.NextOverdue() <= now_;
    const std::string reason = silent ? "missed its heartbeats" : "hangs in one step";
    actions_.push_back(CloseSession{worker, session, reason});
    On(WorkerDownEvent{{worker, session}, reason});
  }
  while (!timers_.empty() && timers_.begin()->first <= now_) {
    RequestState& request = *requests_.at(timers_.begin()->second);
    OnTimer(request);
  }
  DispatchQueued();
  return std::exchange(actions_, {});
}

absl::Time RouterCore::NextTick() const {
  const absl::Time timer = timers_.empty() ? absl::InfiniteFuture() : timers_.begin()->first;
  return std::min(timer, cluster_.NextOverdue());
}

const RequestState* RouterCore::Find(RequestId id) const {
  const auto found = requests_.find(id);
  return found == requests_.end() ? nullptr : found->second.get();
}

// ------------------------------------------------------------------ events from clients

bool RouterCore::Admit(const SubmitEvent& event) {
  if (requests_.contains(event.request)) {
    RejectNew(event, RequestErrorCode::kInternal, "this request id is in use");
    return false;
  }
  if (draining_) {
    RejectNew(event, RequestErrorCode::kDraining, "the router is draining");
    return false;
  }
  const GenerationSpec& spec = *event.spec;
  if (spec.num_samples < 1 || spec.prompt_length < 1 ||
      static_cast<size_t>(spec.prompt_length) != spec.tokens.size()) {
    RejectNew(event, RequestErrorCode::kInvalid, "a request needs a prompt and a sample");
    return false;
  }
  if (cluster_.model_info().has_value()) {
    const int32_t limit = cluster_.model_info()->max_model_len;
    if (spec.prompt_length >= limit) {
      RejectNew(event, RequestErrorCode::kContextLength,
                absl::StrCat("the prompt has ", spec.prompt_length,
                             " tokens; this model's maximum context length is ", limit, " tokens"));
      return false;
    }
  }
  if (!queue_.HasRoom(SpecBytes(spec))) {
    RejectNew(event, RequestErrorCode::kOverloaded,
              absl::StrCat("the queue is full: ", queue_.size(), " requests wait"));
    return false;
  }
  return true;
}

void RouterCore::On(SubmitEvent event) {
  if (!Admit(event)) return;
  retries_.OnRequest();
  auto owned = std::make_unique<RequestState>();
  RequestState& request = *owned;
  const GenerationSpec& spec = *event.spec;
  request.id = event.request;
  request.spec = event.spec;
  request.attempt_spec = event.spec;
  request.arrival = event.arrival;
  request.deadline = event.arrival + event.timeout;
  request.slo = event.slo;
  request.slo_class = event.slo_class;
  request.phase_since = event.arrival;
  request.sequencer = TokenSequencer(spec.first_sample, spec.num_samples);
  request.clocks.resize(static_cast<size_t>(spec.num_samples));
  if (cluster_.model_info().has_value()) {
    request.prefix = HashPrefix(spec.tokens, cluster_.model_info()->block_size, spec.cache_salt);
  }
  const absl::Duration predicted =
      absl::Milliseconds(prefill_ms_per_token_ * static_cast<double>(spec.tokens.size()));
  request.queue_entry = {
      .priority = event.priority,
      .start_by = event.arrival + absl::Milliseconds(event.slo.ttft_ms) - predicted,
      .arrival_number = next_arrival_number_++,
      .request = event.request,
      .bytes = SpecBytes(spec)};
  queue_.Push(request.queue_entry);
  requests_.emplace(event.request, std::move(owned));
  ++in_phase_[static_cast<size_t>(Phase::kQueued)];
  request.timer = absl::InfinitePast();
  SetTimer(request);
  dispatch_due_ = true;
}

void RouterCore::On(const CancelEvent& event) {
  const auto found = requests_.find(event.request);
  if (found == requests_.end()) return;
  Fail(*found->second, RequestErrorCode::kAborted, "the request was cancelled");
}

void RouterCore::On(const SampleStoppedEvent& event) {
  const auto found = requests_.find(event.request);
  if (found == requests_.end()) return;
  RequestState& request = *found->second;
  if (request.sequencer.ended(event.sample)) return;
  request.sequencer.Stop(event.sample);
  request.stopped_samples.push_back(event.sample);
  if (request.sequencer.AllEnded()) {
    Complete(request);
    return;
  }
  // Before the seal there is nothing to stop; On(SealedEvent) says it then.
  if (request.phase == Phase::kDecoding || request.phase == Phase::kGenerating) {
    actions_.push_back(SendAbort{request.decode, {request.id, request.attempt}, event.sample});
  }
}

void RouterCore::On(const StreamBrokenEvent& event) {
  const auto found = requests_.find(event.request);
  if (found == requests_.end()) return;
  Fail(*found->second, RequestErrorCode::kInternal, event.message);
}

void RouterCore::On(const DrainEvent&) { draining_ = true; }

// ------------------------------------------------------------------ dispatch

// Strictly in queue order: if the first request cannot start, none behind it does, so that a large
// one is not starved by small ones.
void RouterCore::DispatchQueued() {
  while (dispatch_due_ && !queue_.empty()) {
    RequestState& request = *requests_.at(queue_.front().request);
    const std::optional<Placement> placement = ChoosePlacement(
        cluster_, {.prompt_tokens = static_cast<int32_t>(request.attempt_spec->tokens.size()),
                   .num_samples = request.spec->num_samples,
                   .affinity = affinity_.Find(request.prefix),
                   .never = request.never,
                   .avoid = request.avoid});
    if (!placement.has_value()) break;
    Dispatch(request, *placement);
  }
  dispatch_due_ = false;
}

void RouterCore::Dispatch(RequestState& request, const Placement& placement) {
  if (last_dispatch_ != absl::InfinitePast() && queue_.size() > 1) {
    const double interval_ms = absl::ToDoubleMilliseconds(now_ - last_dispatch_);
    dispatch_interval_ms_ =
        dispatch_interval_ms_ == 0 ? interval_ms : 0.9 * dispatch_interval_ms_ + 0.1 * interval_ms;
  }
  last_dispatch_ = now_;
  queue_.Remove(request.queue_entry);
  request.stages.queue_ms += absl::ToDoubleMilliseconds(now_ - request.phase_since);
  ++request.attempt;
  request.prefill = placement.prefill;
  request.decode = placement.decode;
  request.prefill_reported = false;
  request.prefill_name = cluster_.worker(placement.prefill).info.id;
  request.decode_name = cluster_.worker(placement.decode).info.id;
  request.sequencer.StartAttempt();
  cluster_.TakeCredit(placement.prefill);
  request.holds_credit = true;
  cluster_.AddDecode(placement.decode);
  request.decode_open = true;
  const RequestKey key{request.id, request.attempt};
  if (placement.in_place()) {
    Move(request, Trigger::kDispatchBoth);
    actions_.push_back(
        SendGenerate{placement.prefill, key, request.attempt_spec, request.deadline - now_});
    for (const int32_t sample : request.stopped_samples) {
      actions_.push_back(SendAbort{placement.prefill, key, sample});
    }
    return;
  }
  Move(request, Trigger::kDispatchPair);
  actions_.push_back(SendReserve{placement.decode, key, request.attempt_spec,
                                 request.deadline - now_, options_.handoff_lease});
}

// ------------------------------------------------------------------ time

void RouterCore::SetTimer(RequestState& request) {
  absl::Time timer = request.deadline;
  if (request.phase == Phase::kReserving) {
    timer = std::min(timer, request.phase_since + options_.reserve_timeout);
  } else if (request.phase == Phase::kQueued) {
    const absl::Time waits_since =
        cluster_.CanServe() ? now_ : std::max(cannot_serve_since_, request.phase_since);
    timer = std::min(timer, waits_since + options_.no_worker_wait);
  }
  timers_.erase({request.timer, request.id});
  request.timer = timer;
  timers_.insert({timer, request.id});
}

void RouterCore::OnTimer(RequestState& request) {
  if (now_ >= request.deadline) {
    if (request.sequencer.AllEnded()) {  // only PrefillDone is missing
      Complete(request);
      return;
    }
    Fail(request, RequestErrorCode::kDeadline,
         absl::StrCat("the deadline of ", absl::FormatDuration(request.deadline - request.arrival),
                      " passed while the request was ", View(PhaseName(request.phase))));
    return;
  }
  if (request.phase == Phase::kReserving) {
    AttemptLost(request, {Side::kDecode, false, "the decode worker did not answer Reserve"});
    return;
  }
  if (request.phase == Phase::kQueued && !cluster_.CanServe() &&
      now_ >= std::max(cannot_serve_since_, request.phase_since) + options_.no_worker_wait) {
    Fail(request, request.lost_code.value_or(RequestErrorCode::kNoWorkers),
         "no live workers can serve the request");
    return;
  }
  SetTimer(request);
}

// The time in which half of the queue is dispatched at the present pace: a retry then finds room.
absl::Duration RouterCore::RetryAfter() const {
  const double half_queue_ms = dispatch_interval_ms_ * queue_.size() / 2;
  return std::clamp(absl::Milliseconds(half_queue_ms), absl::Seconds(1), absl::Seconds(60));
}

}  // namespace baton::router
