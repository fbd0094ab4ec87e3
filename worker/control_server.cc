#include "worker/control_server.h"

#include <deque>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/rpc/grpc_listener.h"
#include "common/strings.h"
#include "worker/control_session.h"
#include "worker/convert.h"
#include "worker/session_table.h"

namespace baton {
namespace {

grpc::Status ToGrpc(const absl::Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), std::string(View(status.message()))};
}

v1::WorkerRole ToProto(WorkerRole role) {
  switch (role) {
    case WorkerRole::kPrefill:
      return v1::WORKER_ROLE_PREFILL;
    case WorkerRole::kDecode:
      return v1::WORKER_ROLE_DECODE;
    case WorkerRole::kBoth:
      return v1::WORKER_ROLE_BOTH;
  }
  return v1::WORKER_ROLE_UNSPECIFIED;
}

v1::WorkerMessage WelcomeToProto(const WelcomeInfo& info) {
  v1::WorkerMessage message;
  v1::Welcome* out = message.mutable_welcome();
  out->set_worker_id(info.worker_id);
  out->set_boot_id(info.boot.value());
  out->set_role(ToProto(info.role));
  out->set_protocol_version(kWorkerProtocolVersion);
  out->set_model_fingerprint(info.model.fingerprint);
  out->set_model_name(info.model.name);
  out->set_vocab_size(info.model.vocab_size);
  out->set_max_model_len(info.model.max_model_len);
  out->set_block_size(info.block_size);
  out->set_total_blocks(info.total_blocks);
  out->set_max_batch_sequences(info.max_batch_sequences);
  out->set_max_batch_tokens(info.max_batch_tokens);
  out->set_prefill_credits(info.prefill_credits);
  out->set_paced_prefill(info.paced_prefill);
  if (info.kv_address.has_value()) {
    v1::KvAddress* address = out->mutable_kv_address();
    address->set_host(info.kv_address->host);
    address->set_port(info.kv_address->port);
    address->set_boot_id(info.kv_address->boot_id);
    address->set_machine_id(info.kv_address->machine_id);
    address->set_layout_fingerprint(info.layout_fingerprint);
  }
  if (info.step_model.known()) StepModelToProto(info.step_model, out->mutable_step_model());
  return message;
}

class ControlServerImpl final : public ControlServer,
                                public ControlSessionOwner,
                                public v1::Worker::CallbackService {
 public:
  ControlServerImpl(const ControlServerOptions& options, SessionSink& sink, const Clock& clock,
                    Logger& log)
      : options_(options), sink_(sink), clock_(clock), log_(log) {}
  ~ControlServerImpl() override;

  absl::Status Listen();

  int32_t port() const override { return listener_->port(); }
  void SetReady(const WelcomeInfo& welcome) override;
  void Send(SessionId session, WorkerReply reply) override;
  void HoldReplies(bool hold) override {
    for (const auto& session : Started()) session->Hold(hold);
  }
  void SendKvBatch(SessionId id, const KvBatch& batch) override;
  void SendStatus(const StatusSnapshot& snapshot) override;
  void CheckLeases() override;
  void Close(const absl::Status& status) override;

  // The service: gRPC's threads.
  grpc::ServerBidiReactor<v1::RouterMessage, v1::WorkerMessage>* Session(
      grpc::CallbackServerContext* context) override;
  void OnMessage(const std::shared_ptr<ControlSession>& session,
                 const v1::RouterMessage& message) override;
  void OnReadsDone(const std::shared_ptr<ControlSession>& session) override {
    EndSession(session, absl::OkStatus());
  }

 private:
  struct Open {
    std::shared_ptr<ControlSession> session;
    bool started = false;  // admitted, and the sink has been told
  };
  struct Ended {
    std::shared_ptr<ControlSession> session;
    absl::Time give_up;
  };

  void OnHello(const std::shared_ptr<ControlSession>& session, const v1::Hello& hello);
  void OnCommand(const std::shared_ptr<ControlSession>& session, const v1::RouterMessage& message);
  // Takes the session out of the books, tells the sink if that knows it, ends the stream.
  void EndSession(const std::shared_ptr<ControlSession>& session, const absl::Status& status,
                  ControlSession::Waiting waiting = ControlSession::Waiting::kDrop);
  std::shared_ptr<ControlSession> Find(SessionId id);
  std::vector<std::shared_ptr<ControlSession>> Started();

  const ControlServerOptions options_;
  SessionSink& sink_;
  const Clock& clock_;
  Logger& log_;
  std::unique_ptr<GrpcListener> listener_;
  std::unique_ptr<grpc::Server> server_;

  absl::Mutex mutex_;
  absl::Status closed_ ABSL_GUARDED_BY(mutex_) = absl::UnavailableError("loading the model");
  std::unique_ptr<SessionTable> table_ ABSL_GUARDED_BY(mutex_);  // from SetReady
  std::map<SessionId, Open> open_ ABSL_GUARDED_BY(mutex_);
  std::deque<Ended> ended_ ABSL_GUARDED_BY(mutex_);  // the oldest first
  v1::WorkerMessage welcome_ ABSL_GUARDED_BY(mutex_);
  CommandLimits limits_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_session_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t next_status_ ABSL_GUARDED_BY(mutex_) = 1;
  std::optional<StatusSnapshot> last_status_ ABSL_GUARDED_BY(mutex_);  // a new router's first
};

ControlServerImpl::~ControlServerImpl() {
  Close(absl::UnavailableError("the worker stops"));
  if (server_ == nullptr) return;
  listener_->Stop();
  // gRPC closes a connection once the router has answered that it has read all of it; at once, the
  // end of what was sent could be lost to a reset. Then calls that are still open are cancelled,
  // and their reactions run to the end.
  server_->Shutdown(std::chrono::system_clock::now() +
                    absl::ToChronoMilliseconds(options_.end_grace));
  server_->Wait();
}

absl::Status ControlServerImpl::Listen() {
  grpc::ServerBuilder builder;
  ASSIGN_OR_RETURN(auto credentials, ServerCredentialsFrom(options_.tls));
  ASSIGN_OR_RETURN(
      listener_, GrpcListener::Bind(options_.host, options_.port, std::move(credentials), builder));
  builder.RegisterService(this);
  builder.SetMaxReceiveMessageSize(16 << 20);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 500);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) return absl::InternalError("gRPC does not start a server");
  listener_->Start();
  return absl::OkStatus();
}

void ControlServerImpl::SetReady(const WelcomeInfo& welcome) {
  absl::MutexLock lock(&mutex_);
  welcome_ = WelcomeToProto(welcome);
  limits_.max_model_len = welcome.model.max_model_len;
  limits_.vocab_size = welcome.model.vocab_size;
  table_ = std::make_unique<SessionTable>(
      SessionTableOptions{.protocol_version = kWorkerProtocolVersion,
                          .model_fingerprint = welcome.model.fingerprint,
                          .max_sessions = static_cast<size_t>(options_.max_sessions)});
  closed_ = absl::OkStatus();
}

grpc::ServerBidiReactor<v1::RouterMessage, v1::WorkerMessage>* ControlServerImpl::Session(
    grpc::CallbackServerContext* context) {
  std::shared_ptr<ControlSession> session;
  absl::Status refused;
  {
    absl::MutexLock lock(&mutex_);
    const SessionId id(next_session_++);
    session = ControlSession::Make(id, context, *this,
                                   static_cast<size_t>(options_.max_outgoing_messages));
    refused = closed_;
    if (refused.ok()) refused = table_->Open(id, clock_.Now());
    if (refused.ok()) open_.emplace(id, Open{session});
  }
  if (refused.ok()) {
    session->StartReading();
  } else {
    session->End(ToGrpc(refused));
  }
  return session.get();
}

void ControlServerImpl::OnMessage(const std::shared_ptr<ControlSession>& session,
                                  const v1::RouterMessage& message) {
  if (message.has_hello()) {
    OnHello(session, message.hello());
  } else if (message.has_heartbeat()) {
    absl::MutexLock lock(&mutex_);
    if (table_ != nullptr) table_->Heartbeat(session->id(), clock_.Now());
  } else {
    OnCommand(session, message);
  }
}

void ControlServerImpl::OnHello(const std::shared_ptr<ControlSession>& session,
                                const v1::Hello& hello) {
  absl::Status status;
  std::vector<std::shared_ptr<ControlSession>> replaced;
  v1::WorkerMessage welcome;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = open_.find(session->id());
    if (found == open_.end()) return;  // it ended meanwhile
    if (found->second.started) {
      status = absl::InvalidArgumentError("a second Hello");
    } else {
      std::vector<SessionId> replaced_ids;
      status = table_->Admit(session->id(),
                             {.router_id = hello.router_id(),
                              .router_epoch = hello.router_epoch(),
                              .protocol_version = hello.protocol_version(),
                              .lease_ms = hello.lease_ms(),
                              .model_fingerprint = hello.model_fingerprint()},
                             clock_.Now(), &replaced_ids);
      for (const SessionId id : replaced_ids) replaced.push_back(open_.at(id).session);
    }
    welcome = welcome_;
  }
  for (const auto& older : replaced) {
    EndSession(older, absl::AbortedError("replaced by a newer session of the same router"));
  }
  if (!status.ok()) {
    log_.Warning("router refused", {{"router", hello.router_id()}, {"why", status.ToString()}});
    return EndSession(session, status);
  }
  // Before the sink, which may have something to tell at once.
  session->SendWelcome(std::move(welcome), hello.max_batch_messages());
  sink_.OnSessionStart(session->id());
  std::optional<StatusSnapshot> last_status;
  bool ended = false;  // by another thread, which left it to this one to tell the sink
  {
    absl::MutexLock lock(&mutex_);
    const auto found = open_.find(session->id());
    ended = found == open_.end();
    if (!ended) found->second.started = true;
    last_status = last_status_;
  }
  if (ended) return sink_.OnSessionEnd(session->id());
  log_.Info("router connected",
            {{"router", hello.router_id()}, {"session", session->id().value()}});
  if (!last_status.has_value()) return;
  v1::WorkerMessage message;
  StatusToProto(*last_status, 0, clock_.Now(), message.mutable_status());
  session->EnqueueStatus(std::move(message));
}

void ControlServerImpl::OnCommand(const std::shared_ptr<ControlSession>& session,
                                  const v1::RouterMessage& message) {
  CommandLimits limits;
  bool started = false;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = open_.find(session->id());
    if (found == open_.end()) return;
    started = found->second.started;
    limits = limits_;
  }
  if (!started) {
    return EndSession(session, absl::InvalidArgumentError("the first message must be Hello"));
  }
  absl::StatusOr<WorkerCommand> command = CommandFromProto(message, limits);
  if (command.ok()) {
    if (!sink_.OnCommand(session->id(), *std::move(command))) {
      EndSession(session, absl::ResourceExhaustedError("the worker's command queue is full"));
    }
  } else if (const std::optional<RequestKey> key = RefusableKey(message); key.has_value()) {
    Send(session->id(), {*key, RefusedReply{RefuseReason::kInvalid,
                                            std::string(View(command.status().message()))}});
  } else {
    EndSession(session, command.status());
  }
}

void ControlServerImpl::Send(SessionId id, WorkerReply reply) {
  const std::shared_ptr<ControlSession> session = Find(id);
  if (session == nullptr) return;
  v1::WorkerMessage message;
  ReplyToProto(reply, &message);
  if (!session->Enqueue(std::move(message))) {
    EndSession(session,
               absl::ResourceExhaustedError(absl::StrCat(
                   "the router left ", options_.max_outgoing_messages, " messages unread")));
  }
}

void ControlServerImpl::SendKvBatch(SessionId id, const KvBatch& batch) {
  const std::shared_ptr<ControlSession> session = Find(id);
  if (session == nullptr) return;
  v1::WorkerMessage message;
  KvBatchToProto(batch, message.mutable_kv_events());
  (void)session->Enqueue(std::move(message), /*share=*/0.5);
}

void ControlServerImpl::SendStatus(const StatusSnapshot& snapshot) {
  v1::WorkerMessage message;
  uint64_t sequence = 0;
  {
    absl::MutexLock lock(&mutex_);
    last_status_ = snapshot;
    sequence = next_status_++;
  }
  StatusToProto(snapshot, sequence, clock_.Now(), message.mutable_status());
  for (const auto& session : Started()) session->EnqueueStatus(message);
}

void ControlServerImpl::CheckLeases() {
  std::vector<std::pair<std::shared_ptr<ControlSession>, std::string>> expired;
  std::vector<std::shared_ptr<ControlSession>> given_up;
  {
    absl::MutexLock lock(&mutex_);
    while (!ended_.empty() && ended_.front().give_up <= clock_.Now()) {
      given_up.push_back(std::move(ended_.front().session));
      ended_.pop_front();
    }
    if (table_ == nullptr) return;
    for (auto& [id, reason] : table_->TakeExpired(clock_.Now())) {
      const auto found = open_.find(id);
      if (found != open_.end()) expired.emplace_back(found->second.session, std::move(reason));
    }
  }
  for (const auto& session : given_up) session->Cancel();
  for (const auto& [session, reason] : expired) {
    log_.Warning("lease over", {{"session", session->id().value()}, {"why", reason}});
    EndSession(session, absl::DeadlineExceededError(reason));
  }
}

void ControlServerImpl::Close(const absl::Status& status) {
  std::vector<std::shared_ptr<ControlSession>> sessions;
  {
    absl::MutexLock lock(&mutex_);
    closed_ = status;
    for (const auto& [id, open] : open_) sessions.push_back(open.session);
  }
  // A drained worker's last tokens may still be waiting.
  for (const auto& session : sessions) EndSession(session, status, ControlSession::Waiting::kSend);
}

void ControlServerImpl::EndSession(const std::shared_ptr<ControlSession>& session,
                                   const absl::Status& status, ControlSession::Waiting waiting) {
  bool had_started = false;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = open_.find(session->id());
    if (found != open_.end()) {
      had_started = found->second.started;
      open_.erase(found);
      ended_.push_back({session, clock_.Now() + options_.end_grace});
      table_->End(session->id());
    }
  }
  if (had_started) {
    log_.Info("router session ended",
              {{"session", session->id().value()}, {"status", status.ToString()}});
    sink_.OnSessionEnd(session->id());
  }
  session->End(ToGrpc(status), waiting);
}

std::shared_ptr<ControlSession> ControlServerImpl::Find(SessionId id) {
  absl::MutexLock lock(&mutex_);
  const auto found = open_.find(id);
  return found == open_.end() ? nullptr : found->second.session;
}

std::vector<std::shared_ptr<ControlSession>> ControlServerImpl::Started() {
  absl::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<ControlSession>> sessions;
  for (const auto& [id, open] : open_) {
    if (open.started) sessions.push_back(open.session);
  }
  return sessions;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ControlServer>> ControlServer::Start(
    const ControlServerOptions& options, SessionSink& sink, const Clock& clock, Logger& log) {
  auto server = std::make_unique<ControlServerImpl>(options, sink, clock, log);
  RETURN_IF_ERROR(server->Listen());
  return std::unique_ptr<ControlServer>(std::move(server));
}

}  // namespace baton
