// Makes the transport that WorkerOptions::kv_transport and kv_buffer_device name.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/kv_layout.h"
#include "kvtransfer/transport.h"

namespace baton {

struct KvTransport {
  std::unique_ptr<TransportFactory> factory;
  std::string description;  // for the startup table: "auto: shared memory inside a host, …"
  // Of a pool on a device: the transport reaches the device's memory; or why it goes through the
  // host's.
  bool direct = false;
  std::string why_staged = "";
};

// "auto", "shm", "tcp", "rdma": UCX. "loopback": peers in this process only, so useful for a worker
// that takes no handoffs. INVALID_ARGUMENT names what is allowed; a UCX device that is missing is
// named too. `buffer_device`: "cuda", "cpu" (pinned memory of the host) or "auto" (cuda where the
// transport reaches it), for a pool with a `staging`; FAILED_PRECONDITION: it does not.
absl::StatusOr<KvTransport> MakeKvTransport(const std::string& name,
                                            const std::string& buffer_device = "auto",
                                            const KvStagingFactory* staging = nullptr);

// `memory` by way of what `transport` reaches.
KvMemory MemoryFor(const KvTransport& transport, const KvMemory& memory);

}  // namespace baton
