// The thread that owns the engine and the role's core: it drains commands and events between steps,
// steps while there is work, sleeps when there is none, and publishes what others may know.
//
// Thread rules: "step" runs everything of the engine and of the core. Any thread may Post, Snapshot
// and RequestDrain. Start and Stop belong to the owner.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <variant>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mailbox.h"
#include "common/step_model.h"
#include "engine/runtime/engine.h"
#include "worker/control_server.h"
#include "worker/role_core.h"
#include "worker/status_snapshot.h"
#include "worker/worker_metrics.h"

namespace baton {

// A role as the step loop runs it: the core with its KV shell. Made and destroyed on the step
// thread, destroyed before the engine whose memory the KV shell reads or writes.
class Role {
 public:
  virtual ~Role() = default;
  virtual RoleCore& core() = 0;
};

struct StepLoopHooks {
  // These run on the step thread when it starts, one after the other: so pinning and first touch of
  // memory happen on the thread that computes.
  std::function<absl::StatusOr<std::unique_ptr<Engine>>()> load_engine;
  std::function<absl::StatusOr<std::unique_ptr<Role>>(Engine&)> make_role;
  // Between the two: measures the engine before it serves. Not known: steps are not predicted.
  std::function<StepModel(Engine&)> calibrate;
  // For one router. On the step thread; must not block.
  std::function<void(SessionId, const KvBatch&)> send_kv_batch;
  // True before and false after the core says what came of a step. On the step thread; must not
  // block.
  std::function<void(bool hold)> hold_replies;
  // What came of the KV copies beside the steps. On the step thread; must not block.
  std::function<absl::Status()> copies_health;
  // The snapshot differs in what routers dispatch by. On the step thread; must not block.
  std::function<void()> status_changed;
};

class StepLoop final : public SessionSink {
 public:
  // `max_commands`: commands from routers that may wait; more overload the session that sends them.
  StepLoop(StepLoopHooks hooks, const Clock& clock, Logger& log, WorkerMetrics& metrics,
           int32_t max_commands = 4096);
  // Stops as Stop does.
  ~StepLoop() override;

  // Starts the thread and waits until engine and role exist, or for their error.
  absl::Status Start();
  // Ends the thread after the step that runs now; then role and engine are gone. Idempotent.
  void Stop();

  // SessionSink: gRPC's threads.
  void OnSessionStart(SessionId session) override;
  bool OnCommand(SessionId session, WorkerCommand command) override;
  void OnSessionEnd(SessionId session) override;
  // The KV thread. Never refused: each accepted key owes at most two events.
  void PostHandoff(HandoffEvent event);
  void RequestDrain();

  StatusSnapshot Snapshot() const;
  // OK once drained and empty; DEADLINE_EXCEEDED after `timeout`; INTERNAL when the engine broke.
  absl::Status WaitUntilDone(absl::Duration timeout);

 private:
  struct SessionStarted {
    SessionId session;
  };
  struct SessionCommand {
    SessionId session;
    WorkerCommand command;
  };
  struct SessionEnded {
    SessionId session;
  };
  struct DrainRequested {};
  using Input =
      std::variant<SessionStarted, SessionCommand, SessionEnded, HandoffEvent, DrainRequested>;

  void Run();
  absl::Status Load();
  void Loop();
  void HandleBetweenSteps();
  void Handle(Input input);
  // What may be handled between Plan and Commit is, the rest waits for the step's end: a reserve
  // or an abort should not wait for a long chunk.
  void HandleDuringStep();
  void Step();
  // Tells the core what came of the last step, if it has not been told yet.
  void TellResult();
  void CheckHealth();
  void OnEngineBroken(const absl::Status& status);
  // Tells every session what changed in the prefix cache since the last call.
  void TellKvChanges();
  void TellKvSnapshot(SessionId session);
  void Publish();
  void PushOrDie(Input input);

  const StepLoopHooks hooks_;
  const Clock& clock_;
  Logger& log_;
  WorkerMetrics& metrics_;
  const int32_t max_commands_;
  std::atomic<int32_t> commands_queued_{0};
  Mailbox<Input> inbox_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;

  // The step thread's own.
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Role> role_;
  std::vector<Input> deferred_;  // came during a step
  // The core is told of it while a device computes the next step, which comes at once.
  std::optional<StepResult> untold_;
  struct LiveSession {
    uint64_t kv_batches = 0;  // told so far
  };
  absl::flat_hash_map<SessionId, LiveSession> live_sessions_;
  std::optional<absl::Time> step_started_;  // of the step that runs
  bool broken_ = false;
  double step_ms_ewma_ = 0.0;
  uint64_t steps_completed_ = 0;
  std::optional<StepModelTracker> step_model_;  // from Load on

  mutable absl::Mutex mutex_;
  std::optional<absl::Status> started_ ABSL_GUARDED_BY(mutex_);
  StatusSnapshot snapshot_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace baton
