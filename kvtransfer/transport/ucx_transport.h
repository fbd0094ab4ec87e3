// Messages over UCX active messages: shared memory between processes of one machine, RDMA or TCP
// between machines. Written against UCX 1.13; runs with 1.22, too.
//
// A pair of workers first meets over a small TCP socket (the *side channel*): it agrees on the
// transport, exchanges UCX addresses, and stays open. Its closing is how a side learns at once that
// the other process has died: UCX endpoints over shared memory and TCP do not say so. Each
// connection has a UCX worker of its own, because destroying that worker is the only thing that
// ends a receive whose sender is gone (H2).
//
// Payloads go by rendezvous: nothing moves until the receiver has accepted. Over shared memory the
// receiver reads the sender's pages itself (CMA, get); the sender never writes into another
// process.
//
// Payloads in CUDA memory need a UCX with CUDA. Inside a machine the receiver reads the sender's
// memory by cuda_ipc; CMA is left out then, so that no way is left on which UCX could fall back to
// writing into another process (docs/adr/0016-kv-from-gpu-to-gpu.md). Over TCP UCX copies through
// buffers of its own.
//
// The side channel is neither encrypted nor authenticated; neither is UCX. Keep the port on a
// network where every machine is trusted.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kvtransfer/transport.h"

namespace baton {

// `kv_transport` of the configuration.
enum class TransportChoice {
  kAuto,  // shared memory where machine ids are equal, else RDMA where both have it, else TCP
  kShm,
  kTcp,
  kRdma
};
std::string_view TransportChoiceName(TransportChoice choice);  // "auto", "shm", "tcp", "rdma"
absl::StatusOr<TransportChoice> ParseTransportChoice(std::string_view name);

struct UcxOptions {
  TransportChoice choice = TransportChoice::kAuto;
  std::string machine_id;                 // normally LocalMachineId()
  MemoryKind memory = MemoryKind::kHost;  // what payloads may be in besides the host's
};

// What of UCX moves CUDA memory here.
struct UcxCudaTransports {
  bool copy = false;  // cuda_copy: without it none is of use
  bool ipc = false;   // cuda_ipc: between processes
  bool gdr = false;   // gdr_copy: small pieces beside RDMA
};
UcxCudaTransports FindUcxCudaTransports();
// "1.13.1", of the library that this process runs with; "1.13", of what Baton was built with.
std::string UcxVersion();
std::string UcxBuildVersion();

// Fails when UCX has no device for a forced choice, naming what is missing. FAILED_PRECONDITION:
// it does not reach `memory`, and why.
absl::StatusOr<std::unique_ptr<TransportFactory>> MakeUcxTransportFactory(UcxOptions options);

}  // namespace baton
