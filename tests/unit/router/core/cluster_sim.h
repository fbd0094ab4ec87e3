// A cluster of workers as plain state, driven by a seed: it answers the router core's actions in
// every order that the real streams allow, loses workers and transfers, and checks the core's
// invariants after each event.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "router/core/router_core.h"

namespace baton::router {

// Ways to break the core, to show that the invariants notice.
enum class Defect {
  kNone,
  kDoubleTerminal,    // an aborted request ends twice
  kLostCancel,        // decode workers do not hear of aborts
  kDuplicateToken,    // a retried request shows its first token again
  kSkippedToken,      // one token is never shown
  kTokenAfterEnd,     // a token goes out after the terminal event
  kSuccessAfterLoss,  // a lost request is reported as complete
};

struct SimOptions {
  uint64_t seed = 0;
  int32_t prefill_workers = 2;
  int32_t decode_workers = 2;
  int32_t both_workers = 0;
  int32_t requests = 4;
  int32_t steps = 120;
  double death_rate = 0.01;     // chance of a death at each step
  double transfer_loss = 0.05;  // chance that a handoff fails
  double cancel_rate = 0.01;
  double stop_rate = 0.2;  // samples that a stop string ends
  int32_t room = 3;        // reservations that a decode worker holds at once
  // Workers have step models and say what their prefix caches hold: so there is admission by
  // forecast, generation in place on decode workers, and KV events, some of which get lost.
  bool step_models = false;
  Defect defect = Defect::kNone;
};

struct SimReport {
  std::string violation;  // empty: every invariant held
  int32_t completed = 0;
  int32_t failed = 0;
  int32_t retried = 0;   // completed after a lost attempt
  int32_t in_place = 0;  // dispatched to a decode worker alone
  int32_t resyncs = 0;
  std::map<RequestErrorCode, int32_t> errors;
};

class ClusterSim {
 public:
  explicit ClusterSim(const SimOptions& options);
  // Runs the schedule, then lets everything end. The first violation stops it.
  SimReport Run();

 private:
  struct Key {  // what a worker holds of one key
    std::shared_ptr<const GenerationSpec> spec;
    std::map<int32_t, int32_t> next;  // by sample: the next index
    std::map<int32_t, bool> ended;
    bool runs = false;  // decode: sealed; generate: from the start
    bool is_prefill = false;
    WorkerIndex destination = kNoWorker;
    SessionId destination_session;
  };
  struct Worker {
    Role role = Role::kBoth;
    bool alive = false;
    SessionId session;
    std::deque<Action> inbox;  // from the router, in order
    std::deque<Event> outbox;  // to the router, in order
    std::map<RequestKey, Key> keys;
    std::map<RequestId, uint32_t> highest_attempt;
    // The router knows that it had no room for a reservation or a prompt in place, and of no report
    // since.
    bool refused = false;
    bool refused_prompt = false;
    uint64_t kv_sequence = 0;
  };
  struct Transfer {
    RequestKey key;
    WorkerIndex from, to;
    SessionId from_session, to_session;
  };
  struct Client {
    std::shared_ptr<const GenerationSpec> spec;
    std::vector<int32_t> shown;    // [num_samples] tokens so far
    std::vector<int32_t> length;   // [num_samples] what the model would say
    std::vector<int32_t> stop_at;  // [num_samples] a stop string ends it there; -1: none
    std::vector<bool> ended;       // [num_samples]
    bool terminal = false;
    uint32_t attempts_seen = 0;
  };

  static TokenId TokenAt(RequestId request, int32_t sample, int32_t index);
  int32_t Pick(int32_t bound);
  bool Chance(double probability);
  void Step();
  void Settle();
  void Violate(const std::string& what);

  void SubmitOne();
  void Kill(Worker& worker, WorkerIndex index);
  void Revive(Worker& worker, WorkerIndex index);
  void Report(Worker& worker, WorkerIndex index);
  void SayKv(Worker& worker, WorkerIndex index, bool snapshot);
  bool TakeCommand(Worker& worker, WorkerIndex index);
  bool DeliverOne(Worker& worker);
  bool Work(Worker& worker, WorkerIndex index);
  void DrawToken(Worker& worker, WorkerOrigin from, const RequestKey& key, Key& held);
  bool MoveTransfer(bool may_fail);
  void OnAbort(Worker& worker, WorkerIndex index, const SendAbort& abort);
  bool AnyoneBusy() const;

  void Feed(Event event);
  void Tick();
  void CarryOut(std::vector<Action> actions);
  void CarryOutOne(const Action& action);
  std::vector<Action> Break(std::vector<Action> actions);
  void Observe(const Action& action);
  void ObserveToken(const EmitToken& action);
  void ObserveEnd(RequestId request, bool complete);
  void CheckAborted(RequestId request);
  void CheckCounts();

  const SimOptions options_;
  std::mt19937_64 random_;
  RouterCore core_;
  std::deque<Action> due_;
  bool carrying_out_ = false;
  absl::Time now_ = absl::UnixEpoch();
  std::vector<Worker> workers_;
  std::vector<Transfer> transfers_;
  std::map<RequestId, Client> clients_;
  uint64_t next_request_ = 1;
  uint64_t next_session_ = 1;
  bool calm_ = false;  // settling: nothing fails any more
  SimReport report_;
};

}  // namespace baton::router
