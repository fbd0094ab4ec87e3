// UCX contexts: one for each kind of transport and network device, configured in code so that no
// environment variable changes what Baton promises.
#pragma once

#include <ucp/api/ucp.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
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

class UcxContext {
 public:
  // `kind` is not kAuto. `device`: the network interface for kTcp, empty for any.
  static absl::StatusOr<std::unique_ptr<UcxContext>> Create(TransportChoice kind,
                                                            const std::string& device);
  ~UcxContext() { ucp_cleanup(context_); }
  UcxContext(const UcxContext&) = delete;
  UcxContext& operator=(const UcxContext&) = delete;

  ucp_context_h get() const { return context_; }
  TransportChoice kind() const { return kind_; }

 private:
  UcxContext(ucp_context_h context, TransportChoice kind) : context_(context), kind_(kind) {}

  const ucp_context_h context_;
  const TransportChoice kind_;
};

}  // namespace baton
