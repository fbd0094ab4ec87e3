// The thread "status": heartbeats to routers, their leases, metrics and the statistics line. It is
// apart from the step loop so that a long step cannot delay a heartbeat; the heartbeat carries the
// step's age, so that liveness is still tied to progress.
#pragma once

#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/log.h"
#include "worker/control_server.h"
#include "worker/status_snapshot.h"
#include "worker/worker_metrics.h"

namespace baton {

struct StatusLoopOptions {
  absl::Duration heartbeat = absl::Seconds(1);
  absl::Duration min_interval = absl::Milliseconds(50);  // between two statuses
  absl::Duration lease_check = absl::Milliseconds(100);
  absl::Duration stats_interval = absl::Seconds(10);
};

// The text of one statistics line, or none when nothing ran between the two snapshots. Pure.
struct StatsLine {
  bool silent = true;
  double prompt_tokens_per_s = 0.0;
  double generation_tokens_per_s = 0.0;
  double kv_usage_percent = 0.0;
  double prefix_hit_percent = 0.0;
};
StatsLine MakeStatsLine(const StatusSnapshot& before, const StatusSnapshot& now,
                        absl::Duration between);

// Notify may be called from any thread. The references must outlive it.
class StatusLoop {
 public:
  StatusLoop(const StatusLoopOptions& options, std::function<StatusSnapshot()> snapshot,
             ControlServer& server, WorkerMetrics& metrics, const Clock& clock, Logger& log);
  ~StatusLoop();  // stops and joins

  // Send a status soon: what routers dispatch by has changed.
  void Notify();

 private:
  void Run();
  void LogStats(const StatusSnapshot& snapshot, absl::Time now);

  const StatusLoopOptions options_;
  const std::function<StatusSnapshot()> snapshot_;
  ControlServer& server_;
  WorkerMetrics& metrics_;
  const Clock& clock_;
  Logger& log_;

  absl::Mutex mutex_;
  bool dirty_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // The thread's own.
  StatusSnapshot stats_before_;
  absl::Time stats_at_;
  std::thread thread_;  // last: it starts when the rest exists
};

}  // namespace baton
