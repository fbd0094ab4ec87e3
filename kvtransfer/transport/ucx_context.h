// UCX contexts: one for each kind of transport and network device, configured in code so that no
// environment variable changes what Baton promises; and what the UCX at hand can do, which may be
// another than that which Baton was built with.
#pragma once

#include <ucp/api/ucp.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kvtransfer/transport.h"
#include "kvtransfer/transport/ucx_transport.h"

namespace baton {

// Whether the kernel shows any RDMA device. Asking UCX on a machine without one makes it complain.
bool HasRdmaDevices();

absl::Status UcxError(std::string_view what, ucs_status_t status);

// RESOURCE_EXHAUSTED when the process has not the descriptors left that a connection takes, and
// some to spare for what other threads open meanwhile. To be asked before UCX opens any: without
// them UCX 1.13 ends the process (while an endpoint is made), or never makes a worker again (once
// its listener could not accept: the handler stays and takes the next descriptor of that number).
absl::Status CheckDescriptorRoom();

// Not thread-safe.
class UcxContext {
 public:
  // `kind` is not kAuto. `device`: the network interface for kTcp, empty for any. `cuda`: with
  // these, payloads may be in CUDA memory.
  static absl::StatusOr<std::unique_ptr<UcxContext>> Create(TransportChoice kind,
                                                            const std::string& device,
                                                            const UcxCudaTransports& cuda = {});
  ~UcxContext();
  UcxContext(const UcxContext&) = delete;
  UcxContext& operator=(const UcxContext&) = delete;

  ucp_context_h get() const { return context_; }
  TransportChoice kind() const { return kind_; }

  // For payloads in a device's memory; it stays registered as long as the context lives.
  absl::Status Register(const MemorySpan& memory);
  // Says where `payload` is. REQUIRES: it is in memory that was registered, or the host's.
  void Describe(const MemorySpan& payload, ucp_request_param_t* param) const;

 private:
  struct Registered {
    MemorySpan memory;
    ucp_mem_h handle = nullptr;
  };
  UcxContext(ucp_context_h context, TransportChoice kind, bool cuda)
      : context_(context), kind_(kind), cuda_(cuda) {}

  const ucp_context_h context_;
  const TransportChoice kind_;
  const bool cuda_;
  std::vector<Registered> registered_;
};

}  // namespace baton
