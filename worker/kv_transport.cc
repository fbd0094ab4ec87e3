#include "worker/kv_transport.h"

#include <utility>

#include "common/check.h"
#include "kvtransfer/transport/loopback_transport.h"
#include "kvtransfer/transport/machine_id.h"
#include "kvtransfer/transport/ucx_transport.h"

namespace baton {
namespace {

std::string Describe(TransportChoice choice) {
  switch (choice) {
    case TransportChoice::kAuto:
      return "auto: shared memory inside a host, else RDMA where both sides have it, else TCP";
    case TransportChoice::kShm:
      return "shared memory";
    case TransportChoice::kTcp:
      return "TCP";
    case TransportChoice::kRdma:
      return "RDMA";
  }
  return "unknown";
}

}  // namespace

absl::StatusOr<KvTransport> MakeKvTransport(const std::string& name) {
  if (name == "loopback") {
    return KvTransport{MakeLoopbackFactory(MakeLoopbackHub()), "loopback (inside this process)"};
  }
  ASSIGN_OR_RETURN(const TransportChoice choice, ParseTransportChoice(name));
  ASSIGN_OR_RETURN(auto factory,
                   MakeUcxTransportFactory({.choice = choice, .machine_id = LocalMachineId()}));
  return KvTransport{std::move(factory), Describe(choice)};
}

}  // namespace baton
