// The gRPC server of baton.v1.Worker: sessions of routers, their leases and their streams.
//
// Thread-safe. It listens from Start; until SetReady every Session call ends with UNAVAILABLE.
// gRPC's threads read the streams and call the sink; any thread may Send. A router whose messages
// pile up beyond the bound loses its session.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/rpc/tls_files.h"
#include "common/step_model.h"
#include "kvtransfer/transport.h"
#include "worker/messages.h"
#include "worker/status_snapshot.h"
#include "worker/worker_process.h"

namespace baton {

// Sessions of another version are refused.
inline constexpr uint32_t kWorkerProtocolVersion = 1;

struct ControlServerOptions {
  std::string host = "127.0.0.1";
  int32_t port = 0;  // 0: any
  TlsFiles tls;      // with an authority: routers must show a certificate of it
  int32_t max_sessions = 16;
  int32_t max_outgoing_messages = 65536;
  // How long a router may take to read what was said before its session ended.
  absl::Duration end_grace = absl::Seconds(1);
};

// What Welcome says of the worker.
struct WelcomeInfo {
  std::string worker_id;
  BootId boot;
  WorkerRole role = WorkerRole::kBoth;
  ModelInfo model;
  int32_t block_size = 0;
  int32_t total_blocks = 0;
  int32_t max_batch_sequences = 0;
  int32_t max_batch_tokens = 0;
  int32_t prefill_credits = 0;
  bool paced_prefill = false;
  std::optional<PeerAddress> kv_address;  // decode and both
  uint64_t layout_fingerprint = 0;
  StepModel step_model;  // not known: none is told
};

// Who carries out what routers say. Called on gRPC's threads, for one session in order; must not
// block.
class SessionSink {
 public:
  virtual ~SessionSink() = default;
  // Exactly once for each session that was admitted, before its commands.
  virtual void OnSessionStart(SessionId session) = 0;
  // False: overloaded. The session is ended then.
  virtual bool OnCommand(SessionId session, WorkerCommand command) = 0;
  // Exactly once for each session that was admitted. A command that another thread was just
  // passing on may still follow: it must be dropped.
  virtual void OnSessionEnd(SessionId session) = 0;
};

class ControlServer : public RouterPort {
 public:
  // UNAVAILABLE names the address that cannot be bound. `sink` must outlive the server.
  static absl::StatusOr<std::unique_ptr<ControlServer>> Start(const ControlServerOptions& options,
                                                              SessionSink& sink, const Clock& clock,
                                                              Logger& log);
  // Ends every session (the sink is told) and joins what gRPC runs for this server. What has been
  // sent still goes out, unless a router does not take it within a second.
  ~ControlServer() override = default;

  virtual int32_t port() const = 0;
  virtual void SetReady(const WelcomeInfo& welcome) = 0;

  // RouterPort: any thread.
  void Send(SessionId session, WorkerReply reply) override = 0;
  // While held, replies wait in their sessions' queues; then they go out, several to a message
  // where the router takes that. For what one step has to say: briefly, by one thread.
  virtual void HoldReplies(bool hold) = 0;
  // Dropped when the session has much to read already: the gap in the numbers makes its router ask
  // for a snapshot.
  virtual void SendKvBatch(SessionId session, const KvBatch& batch) = 0;
  // To every admitted session. A status that has not been written yet is replaced.
  virtual void SendStatus(const StatusSnapshot& snapshot) = 0;
  // Ends sessions whose lease is over. Called on the status thread every now and then.
  virtual void CheckLeases() = 0;
  // Ends all sessions with `status`, behind what has been sent; new ones get it too.
  virtual void Close(const absl::Status& status) = 0;
};

}  // namespace baton
