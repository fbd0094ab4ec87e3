// A worker of the simulated cluster, in one life: the production cores of its role, its scheduler,
// its end of the handoffs and its sessions, with a toy model whose steps take virtual time. What
// the shells do with threads (worker/step_loop.h, worker/control_server.h) happens here in turns.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/step_model.h"
#include "sim/event_queue.h"
#include "sim/faults/control.h"
#include "sim/faults/history.h"
#include "sim/faults/kv_network.h"
#include "sim/faults/mutations.h"
#include "sim/faults/schedule.h"
#include "sim/faults/toy_step.h"
#include "worker/role_core.h"
#include "worker/status_snapshot.h"

namespace baton::sim {

// Times that the router took something out of service.
struct Ejections {
  int64_t workers = 0;  // slow ones
  int64_t pairs = 0;    // whose handoffs failed
};

// What a node lives in.
struct Surroundings {
  EventQueue& events;
  KvNetwork& network;
  ControlPlane& control;
  History& history;
  const Mutations& mutations;
  Ejections& ejections;
};

class WorkerNode final : public KvEnd, private RouterPort {
 public:
  WorkerNode(ProcessId id, const WorkerShape& shape, const Surroundings& world, uint64_t seed);
  ~WorkerNode() override;

  // A router opens a session; its messages follow.
  void OnSessionOpened(const ControlSessionPtr& session);
  void OnMessage(const ControlSessionPtr& session, ToWorker message);
  void Drain() { core_->OnDrain(); }
  void JumpAhead(absl::Duration by) { clock_offset_ += by; }
  void SlowDown(double factor) { step_factor_ = factor; }
  void StepEvent();  // a layer or the step is over
  void OnTime();
  // After anything has happened: carries out what is to be done and plans what comes by itself.
  void Turn();
  // When OnTime is due, by the queue's clock.
  absl::Time NextTime() const;
  // When StepEvent is due; infinite future: no step runs.
  absl::Time NextStepEvent() const { return step_event_at_; }

  // What the handoff core has been asked for and does not know yet: before it hears from a peer.
  void HandleKvCommands();

  // KvEnd
  ProcessId id() const override { return id_; }
  absl::Time Now() const override { return world_.events.now() + clock_offset_; }
  SenderCore* sender() override { return sender_.get(); }
  ReceiverCore* receiver() override { return receiver_.get(); }
  ToyMemory& memory() override { return memory_; }
  void OnHandoff(HandoffEvent event) override { inbox_.push_back(std::move(event)); }

  // Whether it still works for the request; `or_waits`: or waits for the transport to let go of it.
  bool WorksFor(RequestId request, uint32_t attempts, bool or_waits) const;
  bool HasSession(uint64_t router_life) const;
  // Throws Violation unless every block is free or cached and nothing is held.
  void CheckAtRest() const;
  const std::string& name() const { return name_; }

 private:
  static constexpr int32_t kLayers = 2;
  static constexpr int32_t kCredits = 3;
  static constexpr int32_t kMaxBatchSequences = 6;
  static constexpr uint64_t kModelFingerprint = 0x70c7;
  static constexpr absl::Duration kHeartbeat = absl::Seconds(1);

  class Sending;
  class Landing;
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
  using Input = std::variant<SessionStarted, SessionCommand, SessionEnded, HandoffEvent>;
  struct Session {
    ControlSessionPtr session;
    bool started = false;
    bool live = false;  // the step loop knows it
    uint64_t kv_batches = 0;
  };

  static KvLayout Layout();
  HandoffCoreOptions HandoffOptions() const;
  std::unique_ptr<Scheduler> MakeScheduler() const;
  void Send(SessionId session, WorkerReply reply) override;  // RouterPort
  void OnHello(Session& session, const HelloInfo& hello);
  void EndSession(SessionId session, const std::string& reason);
  void Handle(Input input);
  void PostKv(std::function<void()> command);
  void HandleInbox();
  void HandleDuringStep();
  void BeginStep();
  void TellResult();
  void TellKvChanges();
  void TellKvSnapshot(Session& session);
  void TellStatus(bool heartbeat);
  StatusSnapshot Snapshot() const;
  router::WorkerInfo Info() const;
  void Log(std::string what) { world_.history.Add(world_.events.now(), name_, std::move(what)); }

  const ProcessId id_;
  const WorkerShape shape_;
  const std::string name_;
  const Surroundings world_;
  Random random_;
  ToyMemory memory_;
  StepModelTracker step_model_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<SenderCore> sender_;
  std::unique_ptr<ReceiverCore> receiver_;
  std::unique_ptr<Sending> sending_;
  std::unique_ptr<Landing> landing_;
  std::unique_ptr<RoleCore> core_;
  SessionTable table_;
  std::map<SessionId, Session> sessions_;
  std::deque<std::function<void()>> kv_mailbox_;
  absl::Time kv_turn_at_ = absl::InfiniteFuture();  // by the queue's clock
  std::deque<Input> inbox_;
  std::deque<Input> deferred_;  // came during a step
  std::optional<ToyStep> step_;
  std::vector<BlockId> last_blocks_ahead_;  // of the step that was planned ahead
  std::optional<StepResult> untold_;        // as the step loop's
  absl::Time step_started_;
  absl::Time step_event_at_ = absl::InfiniteFuture();
  absl::Duration layer_time_;
  absl::Duration clock_offset_;
  double step_factor_ = 1;
  uint64_t steps_completed_ = 0;
  double step_ms_ewma_ = 0;
  absl::Time next_status_;
  StatusSnapshot last_status_;
  absl::Time retry_plan_at_ = absl::InfiniteFuture();
};

}  // namespace baton::sim
