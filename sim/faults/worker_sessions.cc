// The sessions of a simulated worker: what worker/control_server.h and worker/status_loop.h do.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "sim/faults/worker_node.h"

namespace baton::sim {

void WorkerNode::OnSessionOpened(const ControlSessionPtr& session) {
  const SessionId id(session->number);
  if (const absl::Status status = table_.Open(id, Now()); !status.ok()) {
    world_.control.Send(session, ToRouter(Closed{std::string(View(status.message()))}));
    session->worker_open = false;
    return;
  }
  sessions_.emplace(id, Session{.session = session});
}

void WorkerNode::OnMessage(const ControlSessionPtr& session, ToWorker message) {
  const SessionId id(session->number);
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  if (const auto* hello = std::get_if<HelloInfo>(&message)) {
    OnHello(found->second, *hello);
  } else if (std::holds_alternative<Heartbeat>(message)) {
    table_.Heartbeat(id, Now());
  } else if (const auto* closed = std::get_if<Closed>(&message)) {
    EndSession(id, closed->reason);
  } else {
    inbox_.push_back(SessionCommand{id, std::get<WorkerCommand>(std::move(message))});
  }
}

void WorkerNode::OnHello(Session& session, const HelloInfo& hello) {
  const SessionId id(session.session->number);
  std::vector<SessionId> replaced;
  const absl::Status status = table_.Admit(id, hello, Now(), &replaced);
  for (const SessionId older : replaced) EndSession(older, "replaced by a newer session");
  if (!status.ok()) return EndSession(id, std::string(View(status.message())));
  session.started = true;
  const router::WorkerOrigin from = session.session->origin();
  world_.control.Send(session.session, ToRouter(router::WorkerUpEvent{from, Info()}));
  world_.control.Send(session.session, ToRouter(EventOf(from, Snapshot(), Now())));
  inbox_.push_back(SessionStarted{id});
}

void WorkerNode::EndSession(SessionId id, const std::string& reason) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  const Session session = found->second;
  sessions_.erase(found);
  table_.End(id);
  if (session.started) inbox_.push_back(SessionEnded{id});
  if (std::exchange(session.session->worker_open, false)) {
    world_.control.Send(session.session, ToRouter(Closed{reason}));
  }
}

void WorkerNode::Send(SessionId id, WorkerReply reply) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  const ControlSessionPtr& session = found->second.session;
  world_.control.Send(session, ToRouter(EventOf(session->origin(), std::move(reply))));
}

void WorkerNode::TellKvChanges() {
  const KvBatch batch{.changes = scheduler_->TakePrefixChanges()};
  if (batch.changes.empty()) return;
  for (auto& [id, session] : sessions_) {
    if (!session.live) continue;
    KvBatch own = batch;
    own.sequence = ++session.kv_batches;
    world_.control.Send(session.session,
                        ToRouter(EventOf(session.session->origin(), std::move(own))));
  }
}

void WorkerNode::TellKvSnapshot(Session& session) {
  TellKvChanges();
  KvBatch batch{.sequence = ++session.kv_batches,
                .snapshot = true,
                .changes = {.removed = {}, .stored = scheduler_->PrefixHashes()}};
  world_.control.Send(session.session,
                      ToRouter(EventOf(session.session->origin(), std::move(batch))));
}

void WorkerNode::TellStatus(bool heartbeat) {
  const StatusSnapshot fresh = Snapshot();
  if (heartbeat) next_status_ = Now() + kHeartbeat;
  if (!heartbeat && !fresh.DispatchDiffers(last_status_)) return;
  last_status_ = fresh;
  for (const auto& [id, session] : sessions_) {
    if (!session.started) continue;
    const router::WorkerOrigin from = session.session->origin();
    world_.control.Send(session.session, ToRouter(EventOf(from, fresh, Now())));
  }
}

StatusSnapshot WorkerNode::Snapshot() const {
  StatusSnapshot snapshot = TakeSnapshot(*core_, *scheduler_, step_model_);
  snapshot.steps_completed = steps_completed_;
  snapshot.step_ms_ewma = step_ms_ewma_;
  if (step_.has_value()) snapshot.step_started = step_started_;
  return snapshot;
}

router::WorkerInfo WorkerNode::Info() const {
  router::WorkerInfo info;
  info.id = name_;
  info.boot = id_.boot;
  info.role = shape_.role;
  info.protocol_version = 1;
  info.model_fingerprint = kModelFingerprint;
  info.model_name = "toy";
  info.vocab_size = kToyVocab;
  info.max_model_len = kToyMaxModelLen;
  info.block_size = kToyBlockSize;
  info.total_blocks = shape_.blocks;
  info.max_batch_sequences = kMaxBatchSequences;
  info.max_batch_tokens = shape_.batch_tokens;
  info.prefill_credits = kCredits;
  if (receiver_ != nullptr) {
    info.kv = {.host = "sim",
               .port = id_.worker,
               .boot = id_.boot,
               .layout_fingerprint = 0,
               .machine_id = ""};
  }
  info.step_model = step_model_.model();
  info.paced_prefill = true;
  return info;
}

}  // namespace baton::sim
