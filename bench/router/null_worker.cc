#include "bench/router/null_worker.h"

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton::bench {
namespace {

constexpr int32_t kMuch = 1 << 24;  // of credits and blocks: placement never waits
constexpr int32_t kMaxModelLen = 1 << 20;
constexpr int32_t kBlockSize = 16;
constexpr absl::Duration kHeartbeat = absl::Milliseconds(500);

}  // namespace

NullWorker::NullWorker(const NullWorkerOptions& options, NullCluster& cluster, const Clock& clock,
                       Logger& log)
    : options_(options), cluster_(cluster), clock_(clock), log_(log) {}

NullWorker::~NullWorker() = default;

absl::Status NullWorker::Start() {
  ControlServerOptions server;
  server.max_outgoing_messages = 1 << 20;
  ASSIGN_OR_RETURN(server_, ControlServer::Start(server, *this, clock_, log_));
  WelcomeInfo welcome;
  welcome.worker_id =
      absl::StrCat(std::string(WorkerRoleName(options_.role)), "-", options_.boot.value());
  welcome.boot = options_.boot;
  welcome.role = options_.role;
  welcome.model.name = "null";
  welcome.model.vocab_size = options_.vocab_size;
  welcome.model.max_model_len = kMaxModelLen;
  welcome.model.fingerprint = 1;
  welcome.block_size = kBlockSize;
  welcome.total_blocks = kMuch;
  welcome.max_batch_sequences = kMuch;
  welcome.max_batch_tokens = kMuch;
  welcome.prefill_credits = kMuch;
  if (options_.role != WorkerRole::kPrefill) {
    welcome.kv_address =
        PeerAddress{.host = "127.0.0.1", .port = 1, .boot_id = options_.boot.value()};
  }
  server_->SetReady(welcome);
  SendStatus();
  return absl::OkStatus();
}

void NullWorker::SendStatus() {
  StatusSnapshot status;
  {
    absl::MutexLock lock(&mutex_);
    status.running = static_cast<int32_t>(running_.size());
    status.steps_completed = steps_;
  }
  status.role.credits = kMuch;
  status.blocks.free = kMuch;
  server_->CheckLeases();
  server_->SendStatus(status);
}

bool NullWorker::OnCommand(SessionId session, WorkerCommand command) {
  if (const auto* prefill = std::get_if<PrefillCommand>(&command)) {
    Prefill(session, *prefill);
    return true;
  }
  absl::MutexLock lock(&mutex_);
  if (const auto* reserve = std::get_if<ReserveCommand>(&command)) {
    On(session, *reserve);
  } else if (const auto* generate = std::get_if<GenerateCommand>(&command)) {
    On(session, *generate);
  } else if (const auto* abort = std::get_if<AbortCommand>(&command)) {
    On(session, *abort);
  }
  return true;
}

void NullWorker::OnSessionEnd(SessionId session) {
  absl::MutexLock lock(&mutex_);
  const auto of_session = [session](const auto& entry) { return entry.second.session == session; };
  std::erase_if(reserved_, of_session);
  std::erase_if(running_, of_session);
}

void NullWorker::On(SessionId session, const ReserveCommand& command) {
  reserved_[command.key] = {.session = session,
                            .next_index = 1,  // prefill draws the first token
                            .max_tokens = command.spec.stopping.max_tokens};
  server_->Send(session, {command.key, ReservedReply{{.key = command.key,
                                                      .receiver_boot = options_.boot,
                                                      .generation = 1,
                                                      .num_blocks = 1}}});
}

void NullWorker::On(SessionId session, const GenerateCommand& command) {
  Run(command.key, {.session = session, .max_tokens = command.spec.stopping.max_tokens});
}

void NullWorker::On(SessionId session, const AbortCommand& command) {
  if (reserved_.erase(command.key) + running_.erase(command.key) == 0) return;
  server_->Send(session, {command.key, FailedReply{FailReason::kAborted, ""}});
}

// Without the lock: the decode worker takes its own and may be waiting for ours. One router, so one
// thread at a time is here.
void NullWorker::Prefill(SessionId session, const PrefillCommand& command) {
  Row row{.session = session};
  server_->HoldReplies(true);
  SendToken(command.key, row);
  server_->Send(session, {command.key, PrefillDoneReply{}});
  server_->HoldReplies(false);
  NullWorker* const decode = cluster_.Find(command.ticket.receiver_boot);
  BATON_CHECK(decode != nullptr) << "boot " << command.ticket.receiver_boot;
  decode->OnLanded(command.key);
}

void NullWorker::OnLanded(const RequestKey& key) {
  absl::MutexLock lock(&mutex_);
  const auto found = reserved_.find(key);
  if (found == reserved_.end()) return;
  const Row row = found->second;
  reserved_.erase(found);
  SealedReply sealed;
  sealed.stats.transport = "null";
  server_->Send(row.session, {key, std::move(sealed)});
  server_->Send(row.session, {key, JoinedReply{}});
  Run(key, row);
}

void NullWorker::SendToken(const RequestKey& key, Row& row) {
  const auto place = static_cast<size_t>(row.next_index) % options_.tokens.size();
  TokensReply reply;
  reply.tokens.push_back({.index = row.next_index, .token = options_.tokens[place]});
  server_->Send(row.session, {key, std::move(reply)});
  ++row.next_index;
}

void NullWorker::Run(const RequestKey& key, Row row) {
  if (row.next_index == 0) SendToken(key, row);  // of its own prefill
  while (options_.at_once && row.next_index < row.max_tokens) SendToken(key, row);
  if (row.next_index < row.max_tokens) {
    running_[key] = row;
    return;
  }
  FinishedReply finished;
  finished.finish = {.reason = FinishReason::kLength, .output_tokens = row.next_index};
  server_->Send(row.session, {key, finished});
}

int64_t NullWorker::Step() {
  absl::MutexLock lock(&mutex_);
  server_->HoldReplies(true);
  ++steps_;
  int64_t tokens = 0;
  for (auto it = running_.begin(); it != running_.end();) {
    SendToken(it->first, it->second);
    ++tokens;
    if (it->second.next_index < it->second.max_tokens) {
      ++it;
      continue;
    }
    const auto [key, row] = *it;
    it = running_.erase(it);
    Run(key, row);
  }
  server_->HoldReplies(false);
  return tokens;
}

int64_t NullWorker::running() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int64_t>(running_.size());
}

// ------------------------------------------------------------------ the cluster

absl::StatusOr<std::unique_ptr<NullCluster>> NullCluster::Start(const NullClusterOptions& options,
                                                                const Clock& clock, Logger& log) {
  std::vector<WorkerRole> roles(static_cast<size_t>(options.prefill_workers), WorkerRole::kPrefill);
  roles.insert(roles.end(), static_cast<size_t>(options.decode_workers), WorkerRole::kDecode);
  if (roles.empty()) roles = {WorkerRole::kBoth};
  std::unique_ptr<NullCluster> cluster(new NullCluster);
  for (const WorkerRole role : roles) {
    const NullWorkerOptions worker{.role = role,
                                   .boot = BootId(cluster->workers_.size() + 1),
                                   .vocab_size = options.vocab_size,
                                   .tokens = options.tokens,
                                   .at_once = options.at_once};
    cluster->workers_.push_back(std::make_unique<NullWorker>(worker, *cluster, clock, log));
    RETURN_IF_ERROR(cluster->workers_.back()->Start());
  }
  cluster->heartbeat_ = std::thread([cluster = cluster.get()] { cluster->Beat(); });
  return cluster;
}

NullCluster::~NullCluster() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (heartbeat_.joinable()) heartbeat_.join();
}

void NullCluster::Beat() {
  absl::MutexLock lock(&mutex_);
  while (!mutex_.AwaitWithTimeout(absl::Condition(&stopping_), kHeartbeat)) {
    for (const auto& worker : workers_) worker->SendStatus();
  }
}

std::vector<std::string> NullCluster::addresses() const {
  std::vector<std::string> addresses;
  for (const auto& worker : workers_) {
    addresses.push_back(absl::StrCat("127.0.0.1:", worker->port()));
  }
  return addresses;
}

NullWorker* NullCluster::Find(BootId boot) {
  if (boot.value() < 1 || boot.value() > workers_.size()) return nullptr;
  return workers_[static_cast<size_t>(boot.value() - 1)].get();
}

int64_t NullCluster::Step() {
  int64_t tokens = 0;
  for (const auto& worker : workers_) tokens += worker->Step();
  return tokens;
}

int64_t NullCluster::running() const {
  int64_t running = 0;
  for (const auto& worker : workers_) running += worker->running();
  return running;
}

}  // namespace baton::bench
