#include "worker/kv_transport.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/check.h"
#include "common/strings.h"
#include "kvtransfer/transport/loopback_transport.h"
#include "kvtransfer/transport/machine_id.h"
#include "kvtransfer/transport/ucx_transport.h"

namespace baton {

absl::StatusOr<KvTransport> MakeKvTransport(const std::string& name) {
  if (name == "loopback") {
    return KvTransport{MakeLoopbackFactory(MakeLoopbackHub()), "loopback (inside this process)"};
  }
  ASSIGN_OR_RETURN(const TransportChoice choice, ParseTransportChoice(name));
  ASSIGN_OR_RETURN(auto factory,
                   MakeUcxTransportFactory({.choice = choice, .machine_id = LocalMachineId()}));
  std::string usable;
  for (const TransportChoice each : UsableUcxTransports()) {
    absl::StrAppend(&usable, usable.empty() ? "" : ", ", View(TransportChoiceName(each)));
  }
  return KvTransport{std::move(factory), absl::StrCat(name, " (UCX, usable here: ", usable, ")")};
}

}  // namespace baton
