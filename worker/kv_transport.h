// Makes the transport that WorkerOptions::kv_transport names.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kvtransfer/transport.h"

namespace baton {

struct KvTransport {
  std::unique_ptr<TransportFactory> factory;
  std::string description;  // for the startup table: "auto: shared memory inside a host, …"
};

// "auto", "shm", "tcp", "rdma": UCX. "loopback": peers in this process only, so useful for a worker
// that takes no handoffs. INVALID_ARGUMENT names what is allowed; a UCX device that is missing is
// named too.
absl::StatusOr<KvTransport> MakeKvTransport(const std::string& name);

}  // namespace baton
