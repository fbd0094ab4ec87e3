// A whole cluster as child processes of this one: workers first, then the router that knows their
// ports. Restarts what crashes, on the same port, so that the router finds it again.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cli/child_process.h"
#include "cli/signals.h"
#include "common/log.h"

namespace baton {

struct LocalClusterOptions {
  struct Worker {
    std::string id;                      // "prefill-0"
    std::vector<std::string> arguments;  // of `baton worker`, without the control port
    // Earlier ones that are to be up before this one starts: workers that measure the same GPU at
    // once would measure one another. Not when they are started again.
    std::vector<size_t> after;
  };
  std::vector<Worker> workers;
  std::vector<std::string> router_arguments;  // of `baton router`, without --workers
  absl::Duration start_timeout = absl::Minutes(10);
  absl::Duration drain_timeout = absl::Seconds(60);
};

// Used by one thread.
class LocalCluster {
 public:
  // Returns once the router serves. An error names the process that failed; its own message stands
  // on stderr. A signal while starting is CANCELLED.
  static absl::StatusOr<std::unique_ptr<LocalCluster>> Start(LocalClusterOptions options,
                                                             SignalWaiter& signals, Logger& log);
  ~LocalCluster();

  int32_t http_port() const { return http_port_; }
  int32_t grpc_port() const { return grpc_port_; }

  // Restarts crashed workers until a signal comes (OK) or the router ends by itself (an error).
  absl::Status SuperviseUntilSignal(SignalWaiter& signals);
  // Drains the router, then the workers. A second signal, or the drain timeout, kills what is left
  // and is an error.
  absl::Status Stop(SignalWaiter& signals);

 private:
  struct WorkerSlot {
    LocalClusterOptions::Worker spec;
    std::unique_ptr<ChildProcess> process;
    int32_t control_port = 0;
    absl::Time restart_at = absl::InfiniteFuture();
    absl::Time started_at;
    absl::Duration backoff;
  };

  LocalCluster(LocalClusterOptions options, Logger& log);
  absl::Status StartWorker(WorkerSlot& slot);
  // Until it is up, if it is not yet.
  absl::Status AwaitWorker(WorkerSlot& slot, SignalWaiter& signals);
  absl::Status StartRouter(SignalWaiter& signals);
  void NoticeEnd(WorkerSlot& slot);
  void RestartDue(WorkerSlot& slot);
  // Blocks until a child ends, a signal is pending or `until`.
  void Sleep(SignalWaiter& signals, absl::Time until);
  absl::Status WaitForEnd(ChildProcess& child, SignalWaiter& signals, absl::Time deadline);
  absl::StatusOr<std::string> ReadLine(ChildProcess& child, SignalWaiter& signals,
                                       absl::Time deadline);

  LocalClusterOptions options_;
  Logger& log_;
  std::vector<WorkerSlot> workers_;
  std::unique_ptr<ChildProcess> router_;
  int32_t http_port_ = 0;
  int32_t grpc_port_ = 0;
};

}  // namespace baton
