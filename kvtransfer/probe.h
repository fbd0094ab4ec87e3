// What `baton doctor` says about KV transports on this machine.
#pragma once

#include <string>
#include <vector>

#include "common/clock.h"
#include "kvtransfer/transport/ucx_transport.h"

namespace baton {

struct TransportProbe {
  TransportChoice kind = TransportChoice::kTcp;
  bool usable = false;
  std::string problem;              // when not usable: why, and what to do
  double gigabytes_per_second = 0;  // measured, 1 MiB messages, two threads; when usable
};

// Tries shm, tcp and rdma, each by moving 256 MiB between two threads of this process over the
// loopback address. Takes about a second. Threads are its own; returns when they have ended.
std::vector<TransportProbe> ProbeTransports(const Clock& clock);

}  // namespace baton
