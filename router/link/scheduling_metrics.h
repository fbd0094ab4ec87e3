// The series that tell how the router schedules: what admission said, which way requests went, how
// well the predictor knew, who is out of service for being slow or for failing handoffs. All exist
// at zero from the start.
#pragma once

#include <map>
#include <string>

#include "common/metrics.h"
#include "router/core/events.h"
#include "router/core/router_core.h"

namespace baton::router {

// Called by the router's loop only.
class SchedulingMetrics {
 public:
  explicit SchedulingMetrics(MetricRegistry& registry);

  void OnPlacement(Path path) { placements_.at(path)->Increment(); }
  void OnKvResync() { resyncs_->Increment(); }
  void OnWorkerEjected() { worker_ejections_->Increment(); }
  void OnPairEjected() { pair_ejections_->Increment(); }
  void OnVerdict(Verdict verdict) { verdicts_.at(verdict)->Increment(); }
  // What was predicted of a request, and what came of it.
  void OnComplete(const Prediction& prediction, const RequestTimings& timings);
  void SetCore(const RouterCore& core);

 private:
  std::map<Path, Counter*> placements_;
  std::map<Verdict, Counter*> verdicts_;
  Counter* resyncs_;
  Gauge* prefix_entries_;
  std::map<Role, Gauge*> workers_ejected_;
  Gauge* pairs_ejected_;
  Counter* worker_ejections_;
  Counter* pair_ejections_;
  Histogram* ttft_error_;
  Histogram* tpot_error_;
};

}  // namespace baton::router
