// Messages over UCX active messages: shared memory between processes of one machine, RDMA or TCP
// between machines. Written against UCX 1.13.
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
  std::string machine_id;  // normally LocalMachineId()
};

// Fails when UCX has no device for a forced choice, naming what is missing.
absl::StatusOr<std::unique_ptr<TransportFactory>> MakeUcxTransportFactory(UcxOptions options);

}  // namespace baton
