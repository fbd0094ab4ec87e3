// Puts a worker process together: control server, step loop, status loop, admin server. A role
// brings only how its core and its KV shell are made.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "kvtransfer/kv_copy_watch.h"
#include "worker/role_core.h"
#include "worker/step_loop.h"
#include "worker/worker_process.h"

namespace baton {

// What every part of a worker may use; outlives the worker.
struct WorkerEnvironment {
  const Clock& clock;
  Logger& log;
  MetricRegistry& metrics;
};

// What a role is made from, on the step thread.
struct RoleContext {
  const WorkerOptions& options;
  const WorkerEnvironment& environment;
  BootId boot;
  Engine& engine;
  RouterPort& routers;
  KvCopyWatch& copies;
  std::function<void(HandoffEvent)> post_handoff;  // any thread
};

struct MadeRole {
  std::unique_ptr<Role> role;
  std::optional<PeerAddress> kv_address;  // where KV is received
  std::string transport;                  // for the startup table
  bool kv_direct = false;                 // see KvTransport
  std::string why_kv_staged;
};

// How to get the parts that differ between roles, and in tests.
struct WorkerParts {
  EngineLoader load_engine = Engine::Load;
  std::function<absl::StatusOr<MadeRole>(const RoleContext&)> make_role;
};

// Returns once the worker serves; see StartPrefillWorker and StartDecodeWorker.
absl::StatusOr<std::unique_ptr<WorkerProcess>> StartWorker(const WorkerOptions& options,
                                                           WorkerParts parts,
                                                           const WorkerEnvironment& environment);

}  // namespace baton
