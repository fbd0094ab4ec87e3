// The router's core over simulated workers on a virtual clock: what production decides, without
// production's hardware. Every figure that comes out of it is *simulated*.
//
// Deterministic: the same options and requests give the same result. Messages take a fixed time
// each way; KV goes over in a fixed time for each token, hidden behind prefill but for the last
// part. Prefix caches are not simulated.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <span>
#include <variant>
#include <vector>

#include "router/core/router_core.h"
#include "sim/sim_worker.h"

namespace baton::sim {

struct SimRequest {
  double arrival_ms = 0;
  int32_t prompt = 1;  // tokens
  int32_t output = 1;
  router::SloTarget slo;
  int32_t slo_class = 0;
  uint64_t tenant = 0;
};

struct SimOutcome {
  router::SloResult result = router::SloResult::kError;
  router::Verdict verdict = router::Verdict::kAdmit;
  absl::Duration retry_after;
  double end_ms = 0;
  double ttft_ms = 0;
  double tpot_ms = 0;
  router::Prediction prediction;
};

// A worker was taken out of service for being slow, is probed, or is back.
struct SimStanding {
  double at_ms = 0;
  int32_t worker = 0;
  router::Standing standing = router::Standing::kIn;
};

struct SimResult {
  std::vector<SimOutcome> outcomes;  // by request
  std::vector<double> busy_ms;       // by worker
  // Of each worker, in bins of bin_ms: how long it was in steps.
  std::vector<std::vector<double>> busy_bins_ms;
  std::vector<SimStanding> standings;  // each change
  double end_ms = 0;

  double GoodShare() const;
};

class Simulator;
// Asked before the router core is: false turns the request away at the door. For arms that admit by
// another rule than the core's.
using Gate = std::function<bool(const Simulator&, const SimRequest&)>;

// For a while a worker's steps take longer than it measured at start-up.
struct SimSlowness {
  int32_t worker = 0;
  double from_ms = 0;
  double until_ms = 0;
  double by = 1;
};

struct SimOptions {
  std::vector<SimWorkerOptions> workers;
  std::vector<SimSlowness> slow;
  router::CoreOptions core;  // cluster.num_workers is set from `workers`
  double message_ms = 0;     // one way between router and worker
  double transfer_ms_per_token = 0;
  double transfer_exposed_share = 0.1;  // the part that comes after prefill
  double report_ms = 1000;
  double bin_ms = 1000;
  Gate gate;
};

// Not thread-safe. Runs once.
class Simulator {
 public:
  explicit Simulator(SimOptions options);

  // `requests` in order of arrival. Runs until all have ended.
  SimResult Run(std::span<const SimRequest> requests);

  const std::vector<SimWorker>& workers() const { return workers_; }

 private:
  struct Arrival {
    size_t request = 0;
  };
  struct ToWorker {
    router::Action action;
  };
  struct StepEnd {
    int32_t worker = 0;
  };
  struct KvArrived {
    int32_t worker = 0;
    SimRow row;
    double transfer_ms = 0;
    double exposed_ms = 0;
  };
  struct Heartbeat {};
  struct Slowdown {
    int32_t worker = 0;
    double by = 1;
  };
  struct Wake {  // the core's own timer
    double at_ms = 0;
  };
  using What =
      std::variant<Arrival, ToWorker, router::Event, StepEnd, KvArrived, Heartbeat, Slowdown, Wake>;
  struct Pending {
    double at_ms = 0;
    uint64_t number = 0;  // equal times: in order of creation
    What what;
    friend bool operator<(const Pending& a, const Pending& b) {  // the latest first, for the heap
      return a.at_ms != b.at_ms ? a.at_ms > b.at_ms : a.number > b.number;
    }
  };

  void At(double at_ms, What what);
  void Happen(Arrival arrival);
  void Happen(ToWorker to);
  void Happen(router::Event event) { Feed(std::move(event)); }
  void Happen(StepEnd end);
  void Happen(KvArrived arrived);
  void Happen(Heartbeat);
  void Happen(Slowdown slowdown);
  void Happen(Wake wake);
  void Feed(router::Event event);
  void WakeInTime();
  void Take(std::vector<router::Action> actions);
  void FromWorker(router::Event event);  // after message_ms
  void MayStep(int32_t worker);
  void CountBusy(int32_t worker, double from_ms, double ms);
  void Say(const SimWorker& worker, const router::WorkerOrigin& from, const SimRow& row);
  absl::Time Now() const { return absl::UnixEpoch() + absl::Milliseconds(now_ms_); }
  static router::WorkerOrigin From(int32_t worker) {
    return {router::WorkerIndex(worker), router::SessionId(1)};
  }
  SimWorker& WorkerAt(router::WorkerIndex index) {
    return workers_[static_cast<size_t>(index.value())];
  }

  const SimOptions options_;
  router::RouterCore core_;
  std::vector<SimWorker> workers_;
  std::span<const SimRequest> requests_;
  std::priority_queue<Pending> pending_;
  uint64_t next_number_ = 0;
  size_t open_ = 0;  // requests that have not ended
  double now_ms_ = 0;
  double wake_ms_ = -1;  // of the Wake that counts; -1: none
  SimResult result_;
};

}  // namespace baton::sim
