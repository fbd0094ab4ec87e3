// Workers that compute nothing: the real session server (worker/control_server.h), and answers that
// are ready at once. A router meets the same bytes on the same protocol as from real workers.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "common/log.h"
#include "worker/control_server.h"

namespace baton::bench {

class NullCluster;

struct NullWorkerOptions {
  WorkerRole role = WorkerRole::kBoth;
  BootId boot;  // unique in its cluster
  int32_t vocab_size = 0;
  std::vector<TokenId> tokens;  // what answers are made of, in turns; not empty
  // Every token of an answer follows its first at once; else one with each Step.
  bool at_once = true;
};

// Thread-safe. One router at a time.
class NullWorker final : public SessionSink {
 public:
  NullWorker(const NullWorkerOptions& options, NullCluster& cluster, const Clock& clock,
             Logger& log);
  ~NullWorker() override;

  absl::Status Start();
  int32_t port() const { return server_->port(); }
  // To be called every heartbeat.
  void SendStatus();

  // The decode side of a handoff: every KV byte of `key` has landed.
  void OnLanded(const RequestKey& key);
  // One decode step: a token of each running sample, and the end of those that are complete.
  // Returns the number of tokens. The router must keep up: beyond 2^20 unread messages the session
  // ends and the process with it.
  int64_t Step();
  int64_t running() const;

  void OnSessionStart(SessionId) override {}
  bool OnCommand(SessionId session, WorkerCommand command) override;
  void OnSessionEnd(SessionId session) override;

 private:
  struct Row {
    SessionId session;
    int32_t next_index = 0;
    int32_t max_tokens = 0;
  };
  using Rows = std::map<RequestKey, Row>;

  void On(SessionId session, const ReserveCommand& command) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void On(SessionId session, const GenerateCommand& command) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void On(SessionId session, const AbortCommand& command) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Prefill(SessionId session, const PrefillCommand& command);
  void SendToken(const RequestKey& key, Row& row);
  void Run(const RequestKey& key, Row row) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const NullWorkerOptions options_;
  NullCluster& cluster_;
  const Clock& clock_;
  Logger& log_;
  mutable absl::Mutex mutex_;
  Rows reserved_ ABSL_GUARDED_BY(mutex_);
  Rows running_ ABSL_GUARDED_BY(mutex_);
  uint64_t steps_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<ControlServer> server_;  // last: it calls us until it is gone
};

struct NullClusterOptions {
  int32_t prefill_workers = 1;
  int32_t decode_workers = 1;  // both 0: one colocated worker
  int32_t vocab_size = 0;
  std::vector<TokenId> tokens;
  bool at_once = true;
};

// The workers of one router, their KV wire (a call) and their heartbeats.
class NullCluster {
 public:
  static absl::StatusOr<std::unique_ptr<NullCluster>> Start(const NullClusterOptions& options,
                                                            const Clock& clock, Logger& log);
  ~NullCluster();

  std::vector<std::string> addresses() const;
  // The worker whose boot a ticket names; null: none.
  NullWorker* Find(BootId boot);
  int64_t Step();
  int64_t running() const;

 private:
  NullCluster() = default;
  void Beat();

  std::vector<std::unique_ptr<NullWorker>> workers_;  // boot id = place + 1
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread heartbeat_;
};

}  // namespace baton::bench
