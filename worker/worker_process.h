// The border between the executable and a worker: options in, a running worker out.
//
// A worker process is made of these threads (docs/thread_model.md): "step" (owns the engine and the
// role's core), "kv-send" or "kv-recv", "status" (heartbeats, leases, statistics), "admin" (HTTP),
// and gRPC's own. The caller's thread only starts, asks and waits.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/rpc/tls_files.h"
#include "engine/runtime/engine.h"
#include "worker/load_meter.h"
#include "worker/startup_table.h"

namespace baton {

enum class WorkerRole { kPrefill, kDecode, kBoth };
std::string_view WorkerRoleName(WorkerRole role);  // "prefill", "decode", "both"

struct WorkerOptions {
  std::string id;  // "prefill-0": in logs, Welcome and metrics
  WorkerRole role = WorkerRole::kBoth;
  std::string version;  // what /version says

  // Control plane (gRPC). The server listens at once and answers Session with UNAVAILABLE until
  // the model is loaded.
  std::string host = "127.0.0.1";
  int32_t control_port = 0;  // 0: any
  TlsFiles control_tls;      // with an authority: routers must show a certificate of it
  int32_t max_sessions = 16;
  // Messages waiting for one router. A router that lets more pile up loses its session.
  int32_t max_outgoing_messages = 65536;
  absl::Duration heartbeat = absl::Seconds(1);
  // At most one status message in this time, however often the counts change.
  absl::Duration status_min_interval = absl::Milliseconds(50);

  // Metrics and health (HTTP).
  std::string admin_host = "127.0.0.1";
  int32_t admin_port = 0;  // 0: any; -1: no admin server

  // KV handoffs. `kv_host` is what peers connect to (decode) or come from (prefill).
  std::string kv_host = "127.0.0.1";
  int32_t kv_port = 0;                    // decode: 0 any
  std::string kv_transport = "auto";      // "auto", "shm", "tcp", "rdma", "loopback"
  std::string kv_buffer_device = "auto";  // "auto", "cpu", "cuda": see MakeKvTransport
  int64_t kv_max_bytes_in_flight = int64_t{256} << 20;
  absl::Duration kv_peer_timeout = absl::Seconds(3);

  EngineLoader load_engine = Engine::Load;
  EngineOptions engine;
  // Called while weights load, on the thread that loads them; null: the log tells now and then.
  std::function<void(const LoadPoint&)> show_loading;
  // Where the executable has put this process's threads and memory, for the startup table.
  std::string placement;
  // Requests that it will hold at once before their first token (prefill, both).
  int32_t prefill_credits = 8;
  absl::Duration stats_interval = absl::Seconds(10);
  // Measure step times before serving; off: steps are not predicted.
  bool calibrate = true;
  absl::Duration calibration_budget = absl::Seconds(3);
};

// A running worker. Thread-safe. Destroying it stops at once: what is open is dropped, every thread
// is joined. For a clean end: RequestDrain, WaitUntilDone, destroy.
class WorkerProcess {
 public:
  virtual ~WorkerProcess() = default;

  virtual int32_t control_port() const = 0;
  virtual int32_t admin_port() const = 0;  // 0 without an admin server
  virtual BootId boot_id() const = 0;
  // What was loaded and chosen; the executable prints it.
  virtual StartupTable startup_table() const = 0;

  // Refuses new requests, finishes what is running. Idempotent.
  virtual void RequestDrain() = 0;
  // OK: drained (by RequestDrain or by a router's DrainWorker) and nothing is held.
  // DEADLINE_EXCEEDED: still running after `timeout`. INTERNAL: the engine broke; exit non-zero.
  virtual absl::Status WaitUntilDone(absl::Duration timeout) = 0;
  // How long the step that runs now has taken; 0 between steps. Once it hangs, on a device that
  // does not answer, say, destroying the worker would wait for it: the process has to be ended.
  virtual absl::Duration StepAge() const = 0;
  // The same of KV copies of a device: how long some have been under way with none that has ended.
  virtual absl::Duration CopyAge() const = 0;
};

}  // namespace baton
