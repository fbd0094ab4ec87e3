// The Prometheus series of one worker, API.md's names. Every series exists at zero from the start.
#pragma once

#include <array>

#include "absl/time/time.h"
#include "common/metrics.h"
#include "worker/status_snapshot.h"

namespace baton {

class WorkerMetrics {
 public:
  explicit WorkerMetrics(MetricRegistry& registry);

  // The step thread.
  void ObserveStep(const StepShape& shape, absl::Duration duration, absl::Duration predicted);
  void CountStepAhead() { steps_ahead_->Increment(1); }
  // The status thread: gauges take the snapshot's values, counters move to its totals.
  void Update(const StatusSnapshot& snapshot, absl::Time now);

 private:
  // A counter that follows a total kept elsewhere.
  struct Follower {
    Counter* counter = nullptr;
    double seen = 0;
    void MoveTo(uint64_t total);
  };

  Gauge* requests_running_;
  Gauge* requests_waiting_;
  Gauge* requests_open_;
  Gauge* usage_ratio_;
  Gauge* step_age_;
  Gauge* credits_;
  std::array<Gauge*, 7> blocks_;
  Follower preemptions_, prefix_queries_, prefix_hits_, prompt_tokens_, generation_tokens_;
  Follower success_stop_, success_length_, success_abort_, failed_;
  // By kind: prefill, decode, mixed.
  std::array<Histogram*, 3> step_seconds_;
  std::array<Counter*, 3> step_predicted_seconds_;
  Counter* steps_ahead_;
  Gauge* step_model_error_;
  Gauge* prefill_factor_;
  Gauge* decode_factor_;
  Histogram* step_prefill_tokens_;
  Histogram* step_decode_rows_;
};

}  // namespace baton
