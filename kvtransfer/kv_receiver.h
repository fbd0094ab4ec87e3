// The decode side of KV handoffs: opens landing places, receives into them, seals them.
//
// Shell around ReceiverCore (pure) and a Transport. It owns one thread, "kv-recv", on which
// everything below happens; the public methods may be called from any thread and only post to it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/kv_layout.h"
#include "common/log.h"
#include "common/metrics.h"
#include "kvtransfer/handoff.h"
#include "kvtransfer/handoff_ports.h"
#include "kvtransfer/kv_copy_watch.h"
#include "kvtransfer/ticket.h"
#include "kvtransfer/transport.h"

namespace baton {

struct KvReceiverOptions {
  KvMemory memory;  // must outlive the receiver
  uint64_t model_fingerprint = 0;
  BootId boot;
  std::string worker_name;  // label `dst` of the transfer metrics; at most 64 bytes are used
  std::string bind_host = "127.0.0.1";
  int32_t port = 0;  // 0: any
  int64_t max_bytes_in_flight = int64_t{256} << 20;
  absl::Duration peer_timeout = absl::Seconds(3);  // silence of a peer with open handoffs
  KvCopyWatch* copies = nullptr;  // told of copies between a device and `memory`'s staging
};

class KvReceiver : public LandingPort {
 public:
  // `events` is called on the receiver's thread and must not block. `transport_factory` chooses
  // UCX, loopback or a fault decorator.
  static absl::StatusOr<std::unique_ptr<KvReceiver>> Create(
      const KvReceiverOptions& options, TransportFactory& transports, const Clock& clock,
      Logger& log, MetricRegistry& metrics, std::function<void(ReceiverEvent)> events);
  ~KvReceiver() override =
      default;  // stops the thread; open handoffs are failed and released first

  // Where senders connect; filled into the worker's Welcome.
  virtual PeerAddress address() const = 0;
};

}  // namespace baton
