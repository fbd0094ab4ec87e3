#include "router/core/router_core.h"

#include <algorithm>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton::router {
namespace {

std::vector<int32_t> ShedOrders(const std::vector<SloClass>& classes) {
  std::vector<int32_t> orders;
  orders.reserve(classes.size());
  for (const SloClass& each : classes) orders.push_back(each.shed_order);
  return orders;
}

}  // namespace

RouterCore::RouterCore(const CoreOptions& options)
    : options_(options),
      cluster_(options.cluster),
      queue_(options.queue, ShedOrders(options.slo_classes)),
      prefixes_{PrefixIndex(options.prefix_entries), PrefixIndex(options.prefix_entries),
                PrefixIndex(options.prefix_entries)},
      pairs_(options.pairs),
      retries_(options.retry_ratio, options.retry_capacity) {}

std::vector<Action> RouterCore::Handle(absl::Time now, Event event) {
  now_ = std::max(now_, now);
  if (cannot_serve_since_ == absl::InfinitePast()) cannot_serve_since_ = now_;
  std::visit([this](auto&& e) { On(std::forward<decltype(e)>(e)); }, std::move(event));
  NoteStandings();
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
  if (now_ >= dispatch_at_) dispatch_due_ = true;
  while (!timers_.empty() && timers_.begin()->first <= now_) {
    RequestState& request = *requests_.at(timers_.begin()->second);
    OnTimer(request);
  }
  NoteStandings();
  DispatchQueued();
  return std::exchange(actions_, {});
}

absl::Time RouterCore::NextTick() const {
  const absl::Time timer = timers_.empty() ? absl::InfiniteFuture() : timers_.begin()->first;
  return std::min({timer, cluster_.NextOverdue(), dispatch_at_});
}

const RequestState* RouterCore::Find(RequestId id) const {
  const auto found = requests_.find(id);
  return found == requests_.end() ? nullptr : found->second.get();
}

// ------------------------------------------------------------------ events from clients

void RouterCore::On(const SubmitEvent& event) {
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
  request.slo_stated = event.slo_stated;
  request.phase_since = event.arrival;
  request.sequencer = TokenSequencer(spec.first_sample, spec.num_samples);
  request.clocks.resize(static_cast<size_t>(spec.num_samples));
  PrepareEntry(event, request);
  if (!AdmitByForecast(event, request)) return;
  queue_.Push(now_, request.queue_entry);
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

// ------------------------------------------------------------------ time

void RouterCore::SetTimer(RequestState& request) {
  absl::Time timer = request.deadline;
  if (request.phase == Phase::kReserving) {
    timer = std::min(timer, request.phase_since + options_.reserve_timeout);
  } else if (request.phase == Phase::kQueued) {
    const absl::Time waits_since =
        cluster_.CanServe() ? now_ : std::max(cannot_serve_since_, request.phase_since);
    timer = std::min(timer, waits_since + options_.no_worker_wait);
  } else if (!request.held.empty()) {
    timer = std::min(timer, request.HoldUntil());
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
  if (now_ >= request.HoldUntil()) ReleaseHeld(request);
  SetTimer(request);
}

}  // namespace baton::router
