// The prefill side of KV handoffs: streams finished layers while later ones are computed.
//
// Shell around SenderCore (pure) and a Transport. It owns one thread, "kv-send"; the public methods
// may be called from any thread, never block and only post to it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

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
#include "kvtransfer/kv_receiver.h"
#include "kvtransfer/ticket.h"
#include "kvtransfer/transport.h"

namespace baton {

struct KvSenderOptions {
  KvMemory memory;  // must outlive the sender
  uint64_t model_fingerprint = 0;
  BootId boot;
  std::string worker_name;  // label `src` of the transfer metrics; at most 64 bytes are used
  int64_t max_bytes_in_flight = int64_t{256} << 20;
  absl::Duration peer_timeout = absl::Seconds(3);
  KvCopyWatch* copies = nullptr;  // told of copies between a device and `memory`'s staging
};

class KvSender : public SendingPort {
 public:
  static absl::StatusOr<std::unique_ptr<KvSender>> Create(const KvSenderOptions& options,
                                                          TransportFactory& transports,
                                                          const Clock& clock, Logger& log,
                                                          MetricRegistry& metrics,
                                                          std::function<void(SenderEvent)> events);
  ~KvSender() override = default;  // stops the thread; open handoffs are failed and released first
};

}  // namespace baton
