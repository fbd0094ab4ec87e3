#include "sim/faults/router_node.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace baton::sim {
namespace {

constexpr absl::Duration kHeartbeat = absl::Seconds(1);
constexpr int32_t kWorkerLeaseMs = 10'000;
constexpr absl::Duration kLeastPause = absl::Milliseconds(100);
constexpr absl::Duration kMostPause = absl::Seconds(2);

router::CoreOptions CoreOptionsFor(int32_t num_workers, const Mutations& mutations) {
  router::CoreOptions options;
  options.cluster.num_workers = num_workers;
  options.handoff_lease = absl::Seconds(8);
  // Quick, since schedules are short: a production router would eject nobody in them.
  options.cluster.ejection = {.sample = absl::Milliseconds(200),
                              .out_after = absl::Milliseconds(300),
                              .out_samples = 1,
                              .probe_after = absl::Milliseconds(300),
                              .most_probe_after = absl::Seconds(1),
                              .probe_steps = 2,
                              .probe_for = absl::Milliseconds(100)};
  options.pairs = {
      .failures = 1, .probe_after = absl::Milliseconds(300), .most_probe_after = absl::Seconds(1)};
  options.mutations = mutations.router;
  return options;
}

std::string KeyText(const RequestKey& key) {
  return absl::StrCat("request ", key.request.value(), "/", key.attempt);
}

}  // namespace

RouterNode::RouterNode(uint64_t life, int32_t num_workers, const Surroundings& world,
                       Clients& clients, ConnectFn connect)
    : life_(life),
      world_(world),
      clients_(clients),
      connect_(std::move(connect)),
      core_(CoreOptionsFor(num_workers, world.mutations)),
      links_(static_cast<size_t>(num_workers)),
      next_heartbeat_(world.events.now() + kHeartbeat) {
  for (Link& link : links_) link.next_try = Now();
}

// ------------------------------------------------------------------ clients

void RouterNode::Submit(const PlannedRequest& plan) {
  clients_.OnSubmitted(plan.id, Now());
  Log(absl::StrCat("request ", plan.id.value(), " came"));
  Feed(router::SubmitEvent{.request = plan.id,
                           .spec = std::make_shared<const GenerationSpec>(plan.spec),
                           .arrival = Now(),
                           .timeout = plan.timeout,
                           .slo = {.ttft_ms = 2000, .tpot_ms = 200},
                           .slo_stated = false});
}

void RouterNode::Cancel(RequestId request) {
  if (core_.Find(request) == nullptr) return;
  Log(absl::StrCat("the client of request ", request.value(), " left"));
  clients_.OnCancelled(request);
  Feed(router::CancelEvent{request});
}

void RouterNode::StopSample(RequestId request, int32_t sample) {
  if (core_.Find(request) == nullptr) return;
  Log(absl::StrCat("sample ", sample, " of request ", request.value(), " met its stop string"));
  clients_.OnStopped(request, sample);
  Feed(router::SampleStoppedEvent{request, sample});
}

// ------------------------------------------------------------------ workers

void RouterNode::OnMessage(const ControlSessionPtr& session, ToRouter message) {
  Link& link = links_[static_cast<size_t>(session->worker)];
  if (auto* event = std::get_if<router::Event>(&message)) {
    if (std::holds_alternative<router::WorkerUpEvent>(*event)) link.tries = 0;
    // Messages of a session that this side has closed may still arrive, as the shell's do.
    Feed(std::move(*event));
    return;
  }
  if (link.session != session) return;
  const std::string& reason = std::get<Closed>(message).reason;
  Log(absl::StrCat("session ", session->number, " to worker ", session->worker,
                   " ended: ", reason));
  Feed(router::WorkerDownEvent{session->origin(), reason});
  CloseLink(session->worker, "ended");
}

void RouterNode::CloseLink(int32_t worker, const std::string& reason) {
  Link& link = links_[static_cast<size_t>(worker)];
  if (link.session == nullptr) return;
  const ControlSessionPtr session = std::exchange(link.session, nullptr);
  if (std::exchange(session->router_open, false)) {
    world_.control.Send(session, ToWorker(Closed{reason}));
  }
  absl::Duration pause = kLeastPause;
  for (int32_t i = 0; i < link.tries && pause < kMostPause; ++i) pause *= 2;
  link.next_try = Now() + std::min(pause, kMostPause);
  ++link.tries;
}

void RouterNode::Connect(int32_t worker) {
  Link& link = links_[static_cast<size_t>(worker)];
  link.session = connect_(worker, life_);
  if (link.session == nullptr) {
    link.next_try = Now() + kLeastPause;
    return;
  }
  world_.control.Send(
      link.session, ToWorker(HelloInfo{.router_id = "router",
                                       .router_epoch = life_,
                                       .protocol_version = 1,
                                       .lease_ms = kWorkerLeaseMs,
                                       .model_fingerprint = core_.cluster().model_fingerprint()}));
}

void RouterNode::OnTime() {
  if (core_.NextTick() <= Now()) Take(core_.Tick(Now()));
  if (next_heartbeat_ <= Now()) {
    next_heartbeat_ = Now() + kHeartbeat;
    for (const Link& link : links_) {
      if (link.session != nullptr) world_.control.Send(link.session, ToWorker(Heartbeat{}));
    }
  }
  for (size_t i = 0; i < links_.size(); ++i) {
    if (links_[i].session == nullptr && links_[i].next_try <= Now()) {
      Connect(static_cast<int32_t>(i));
    }
  }
}

absl::Time RouterNode::NextTime() const {
  absl::Time next = std::min(core_.NextTick(), next_heartbeat_);
  for (const Link& link : links_) {
    if (link.session == nullptr) next = std::min(next, link.next_try);
  }
  return next;
}

template <typename Action>
void RouterNode::ToWorkerOf(const Action& action) {
  const Link& link = links_[static_cast<size_t>(action.worker.value())];
  if (link.session == nullptr) return;
  world_.control.Send(link.session, ToWorker(CommandOf(action)));
}

void RouterNode::Take(std::vector<router::Action> actions) {
  const bool recording = world_.history.recording();
  for (router::Action& action : actions) {
    if (const auto* reserve = std::get_if<router::SendReserve>(&action)) {
      if (recording) {
        Log(absl::StrCat(KeyText(reserve->key), " reserves at worker ", reserve->worker.value()));
      }
      ToWorkerOf(*reserve);
    } else if (const auto* prefill = std::get_if<router::SendPrefill>(&action)) {
      if (recording) {
        Log(absl::StrCat(KeyText(prefill->key), " goes to worker ", prefill->worker.value(),
                         " for prefill of ", prefill->spec->tokens.size(), " tokens"));
      }
      ToWorkerOf(*prefill);
    } else if (const auto* generate = std::get_if<router::SendGenerate>(&action)) {
      if (recording) {
        Log(absl::StrCat(KeyText(generate->key), " goes to worker ", generate->worker.value(),
                         " as a whole"));
      }
      ToWorkerOf(*generate);
    } else if (const auto* abort = std::get_if<router::SendAbort>(&action)) {
      if (recording) {
        Log(absl::StrCat(KeyText(abort->key), " is aborted at worker ", abort->worker.value()));
      }
      ToWorkerOf(*abort);
    } else if (const auto* resync = std::get_if<router::SendKvResync>(&action)) {
      const Link& link = links_[static_cast<size_t>(resync->worker.value())];
      if (link.session != nullptr) {
        world_.control.Send(link.session, ToWorker(WorkerCommand(KvResyncCommand{})));
      }
    } else if (const auto* close = std::get_if<router::CloseSession>(&action)) {
      const ControlSessionPtr& session = links_[static_cast<size_t>(close->worker.value())].session;
      if (session != nullptr && session->number == close->session.value()) {
        Log(absl::StrCat("closes session ", session->number, " to worker ", session->worker, ": ",
                         close->reason));
        CloseLink(close->worker.value(), close->reason);
      }
    } else if (const auto* worker = std::get_if<router::NoteStanding>(&action)) {
      Note(absl::StrCat("worker ", worker->worker.value()), worker->standing,
           &world_.ejections.workers);
    } else if (const auto* pair = std::get_if<router::NotePairStanding>(&action)) {
      Note(absl::StrCat("the pair ", pair->pair.prefill.value(), ", ", pair->pair.decode.value()),
           pair->standing, &world_.ejections.pairs);
    } else if (const auto* token = std::get_if<router::EmitToken>(&action)) {
      clients_.OnToken(token->request, token->token);
    } else if (const auto* finish = std::get_if<router::EmitSampleFinish>(&action)) {
      clients_.OnSampleFinish(finish->request, finish->finish);
    } else if (const auto* done = std::get_if<router::CompleteRequest>(&action)) {
      Log(absl::StrCat("request ", done->request.value(), " is complete"));
      clients_.OnComplete(*done);
    } else if (const auto* failed = std::get_if<router::FailRequest>(&action)) {
      Log(absl::StrCat("request ", failed->request.value(), " failed: ", failed->error.message));
      clients_.OnFail(*failed, Now());
    }
  }
}

void RouterNode::Note(const std::string& whose, router::Standing standing, int64_t* ejections) {
  if (standing == router::Standing::kOut) ++*ejections;
  Log(absl::StrCat("standing of ", whose, ": ", View(router::StandingName(standing))));
}

// ------------------------------------------------------------------ what the run looks at

uint32_t RouterNode::attempts(RequestId request) const {
  const router::RequestState* state = core_.Find(request);
  return state == nullptr ? 0 : state->attempt;
}

void RouterNode::CheckAtRest() const {
  if (core_.num_waiting() + core_.num_running() != 0) {
    throw Violation("H5: the router still holds requests at rest");
  }
  for (const router::WorkerState& worker : core_.cluster().workers()) {
    if (worker.placed_prefills + worker.placed_decodes + worker.placed_rows != 0) {
      throw Violation(absl::StrCat("the router still counts work on ", worker.info.id, " at rest"));
    }
  }
}

}  // namespace baton::sim
