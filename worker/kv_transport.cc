#include "worker/kv_transport.h"

#include <utility>

#include "common/check.h"
#include "common/kv_staging.h"
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

absl::StatusOr<KvTransport> Make(const std::string& name, MemoryKind memory) {
  if (name == "loopback") {
    if (memory != MemoryKind::kHost) {
      return absl::FailedPreconditionError("kv_transport loopback copies memory of the host only");
    }
    return KvTransport{MakeLoopbackFactory(MakeLoopbackHub()), "loopback (inside this process)"};
  }
  ASSIGN_OR_RETURN(const TransportChoice choice, ParseTransportChoice(name));
  ASSIGN_OR_RETURN(auto factory,
                   MakeUcxTransportFactory(
                       {.choice = choice, .machine_id = LocalMachineId(), .memory = memory}));
  return KvTransport{std::move(factory), Describe(choice)};
}

}  // namespace

absl::StatusOr<KvTransport> MakeKvTransport(const std::string& name,
                                            const std::string& buffer_device,
                                            const KvStagingFactory* staging) {
  if (staging == nullptr) return Make(name, MemoryKind::kHost);
  std::string why = "kv.buffer_device is cpu";
  if (buffer_device != "cpu") {
    const absl::StatusOr<MemoryKind> memory = staging->device_memory();
    absl::StatusOr<KvTransport> direct =
        memory.ok() ? Make(name, *memory) : absl::StatusOr<KvTransport>(memory.status());
    if (direct.ok()) {
      direct->description += ", from and to GPU memory";
      if (*memory == MemoryKind::kCuda && !FindUcxCudaTransports().ipc) {
        direct->description +=
            " (this UCX has no cuda_ipc here: inside a host by way of its memory)";
      }
      direct->direct = true;
      return direct;
    }
    const bool may_stage = buffer_device == "auto" && absl::IsFailedPrecondition(direct.status());
    if (!may_stage) return direct.status();
    why = std::string(direct.status().message());
  }
  ASSIGN_OR_RETURN(KvTransport staged, Make(name, MemoryKind::kHost));
  staged.description += ", through pinned host memory";
  staged.why_staged = why;
  return staged;
}

KvMemory MemoryFor(const KvTransport& transport, const KvMemory& memory) {
  KvMemory used = memory;
  used.staged_on_device = transport.direct;
  return used;
}

}  // namespace baton
