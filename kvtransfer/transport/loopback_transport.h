// A Transport inside one process: for tests, and for a prefill and a decode loop that share a
// process. Payloads are copied by the receiver's thread, straight from the sender's memory, as a
// rendezvous get would.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kvtransfer/transport.h"

namespace baton {

// Where loopback transports find one another. Thread-safe.
class LoopbackHub;

std::shared_ptr<LoopbackHub> MakeLoopbackHub();

// Transports of one hub reach each other by the host and port given to Listen (port 0: a new one).
// The hub is shared by the factory and by every transport that it has made.
std::unique_ptr<TransportFactory> MakeLoopbackFactory(std::shared_ptr<LoopbackHub> hub);

}  // namespace baton
