// A whole small cluster on a virtual clock: the production cores of router, workers, schedulers and
// handoffs, joined by simulated networks, under the faults of one schedule.
//
// Checked after every event: the self-checks of roles, schedulers, handoffs and pools (H1, H2, H4,
// H7), every KV byte that a step attends to, every token that a client gets (H6). Checked in time:
// an end for each request (deadlines), aborts that reach the workers within a second (H8). Checked
// at the end, when faults are over: nothing is held anywhere (H5).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sim/event_queue.h"
#include "sim/faults/clients.h"
#include "sim/faults/control.h"
#include "sim/faults/history.h"
#include "sim/faults/kv_network.h"
#include "sim/faults/mutations.h"
#include "sim/faults/router_node.h"
#include "sim/faults/schedule.h"
#include "sim/faults/worker_node.h"

namespace baton::sim {

struct FaultResult {
  std::string violation;  // empty: none
  int64_t events = 0;
  int32_t completed = 0;  // requests
  int32_t failed = 0;
  int64_t payload_blocks = 0;  // that landed
  Ejections ejections;
  std::vector<History::Line> history;
};

// Not thread-safe. Runs once. The schedule must outlive it.
class FaultSim final : private KvHost, private ControlPlane {
 public:
  FaultSim(const Schedule& schedule, const Mutations& mutations, bool record);
  ~FaultSim() override;

  FaultResult Run();

 private:
  struct Slot {                        // where workers live, one life after the other
    std::unique_ptr<WorkerNode> node;  // null: down
    uint64_t lives = 0;
    absl::Time paused_until;
    absl::Time cut_from_router_until, cut_from_peers_until;
    absl::Time noise_until, late_writes_until, slow_control_until, slow_steps_until;
    int32_t noise_percent = 0;
    int32_t late_writes = 1;
    absl::Duration control_delay;
    absl::Time last_trouble;  // until then aborts may be late
    absl::Time wake_at = absl::InfiniteFuture();
    absl::Time step_at = absl::InfiniteFuture();
  };

  // KvHost
  void InProcess(ProcessId process, std::function<void(KvEnd&)> run) override;
  KvEnd* Alive(ProcessId process) override { return Node(process); }
  std::optional<ProcessId> Running(int32_t worker) override;
  KvWeather Weather(int32_t worker) const override;
  // ControlPlane
  void Send(const ControlSessionPtr& session, ToWorker message) override;
  void Send(const ControlSessionPtr& session, ToRouter message) override;

  Surroundings World() { return {events_, network_, *this, history_, mutations_, ejections_}; }
  WorkerNode* Node(ProcessId process);
  void InNode(ProcessId process, std::function<void(WorkerNode&)> run);
  void AfterNode(WorkerNode& node);
  void AfterRouter();
  ControlSessionPtr Connect(int32_t worker, uint64_t life);
  template <typename Message>
  void Write(const ControlSessionPtr& session, ControlSession::Stream<Message>& stream,
             Message message);
  void LoseSome(const ControlSessionPtr& session);
  void PumpToWorker(const ControlSessionPtr& session);
  void PumpToRouter(const ControlSessionPtr& session);

  void Bury();
  void PlanRequest(const PlannedRequest& plan);
  void StartWorker(int32_t worker);
  void StopWorker(int32_t worker, bool silent);
  void StartRouter();
  void StopRouter();
  void Strike(const Fault& fault);
  void WatchAborts(RequestId request, uint32_t attempts);
  void CheckAtEnd();
  bool Quiet() const;  // nothing is left to come but heartbeats

  const Schedule& schedule_;
  const Mutations mutations_;
  EventQueue events_;
  History history_;
  Ejections ejections_;
  Random random_;
  KvNetwork network_;
  Clients clients_;
  std::vector<Slot> slots_;
  std::unique_ptr<RouterNode> router_;  // null: down
  uint64_t router_lives_ = 0;
  absl::Time router_wake_at_ = absl::InfiniteFuture();
  uint64_t next_session_ = 1;
  std::map<uint64_t, ControlSessionPtr> sessions_;  // that one side may still have open
  std::map<RequestId, uint32_t> attempts_;          // of requests that are open at the router
  absl::Time faults_over_;
};

}  // namespace baton::sim
