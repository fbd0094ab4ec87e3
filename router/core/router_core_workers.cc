// What workers say of themselves, and their loss.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "router/core/router_core.h"

namespace baton::router {

void RouterCore::On(const WorkerUpEvent& event) {
  const WorkerState& known = cluster_.worker(event.from.worker);
  // A session that this router has closed may still speak, after the one that came in its place.
  if (event.from.session.value() < known.session.value()) return;
  if (known.alive) WorkerLost(event.from.worker, "opened a new session");
  // The session's first batch of KV events says all that is there.
  for (PrefixIndex& index : prefixes_) index.Forget(event.from.worker);
  if (const absl::Status status = cluster_.Up(now_, event); !status.ok()) {
    actions_.push_back(
        CloseSession{event.from.worker, event.from.session, std::string(View(status.message()))});
    return;
  }
  could_serve_ = cluster_.CanServe();
  dispatch_due_ = true;
}

void RouterCore::On(const WorkerReportEvent& event) {
  if (!cluster_.Report(now_, event)) return;
  if (could_serve_ && !cluster_.CanServe()) cannot_serve_since_ = now_;
  could_serve_ = cluster_.CanServe();
  dispatch_due_ = true;
}

void RouterCore::NoteStandings() {
  for (const WorkerIndex worker : cluster_.TakeStandingChanges()) {
    if (!cluster_.worker(worker).serves()) continue;  // what it was does not matter any more
    actions_.push_back(NoteStanding{worker, cluster_.worker(worker).standing});
  }
  for (const WorkerPair& pair : pairs_.TakeChanges()) {
    actions_.push_back(NotePairStanding{pair, pairs_.standing(pair)});
  }
}

void RouterCore::On(const WorkerDownEvent& event) {
  if (!cluster_.IsCurrent(event.from)) return;
  WorkerLost(event.from.worker, event.reason);
}

void RouterCore::On(const KvCacheEvent& event) {
  if (!cluster_.IsCurrent(event.from)) return;
  const Role role = cluster_.worker(event.from.worker).info.role;
  if (!prefixes_[static_cast<size_t>(role)].Apply(event)) {
    actions_.push_back(SendKvResync{event.from.worker});
  }
}

void RouterCore::WorkerLost(WorkerIndex worker, const std::string& reason) {
  const WorkerState& state = cluster_.worker(worker);
  cluster_.Down({worker, state.session});
  for (PrefixIndex& index : prefixes_) index.Forget(worker);
  pairs_.Forget(worker);
  if (could_serve_ && !cluster_.CanServe()) cannot_serve_since_ = now_;
  could_serve_ = cluster_.CanServe();
  std::vector<RequestId> held;
  for (const auto& [id, request] : requests_) {
    if (request->prefill == worker || request->decode == worker) held.push_back(id);
  }
  std::sort(held.begin(), held.end());  // the same order in every run
  for (const RequestId id : held) {
    RequestState& request = *requests_.at(id);
    const std::string message = absl::StrCat("worker ", state.info.id, " was lost: ", reason);
    if (request.decode == worker) {
      request.decode_open = false;
      if (request.in_place()) request.prefill_open = false;
      AttemptLost(request, {Side::kDecode, true, message});
    } else {
      request.prefill_open = false;
      PrefillLost(request, {Side::kPrefill, true, message});
    }
  }
  dispatch_due_ = true;
}

// A prefill worker that is lost after the seal is not missed, once all its tokens are out.
void RouterCore::PrefillLost(RequestState& request, const Loss& loss) {
  if (request.phase == Phase::kReserving) {
    // It had not begun: nothing is lost but the reservation.
    AbortOnWorkers(request);
    Requeue(request);
    return;
  }
  if (request.phase == Phase::kDecoding && FirstTokensOut(request)) {
    ReturnCredit(request);
    request.prefill_reported = true;
    EmitFinishesAndCheck(request);
    return;
  }
  AttemptLost(request, loss);
}

bool RouterCore::FirstTokensOut(const RequestState& request) const {
  return request.sequencer.EachHas(request.first_index() + 1);
}

}  // namespace baton::router
