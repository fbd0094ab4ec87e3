// What CUDA devices there are, and how quickly KV would get to and from them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/memory_kind.h"

namespace baton {

// Rates are bytes copied, in GB/s: the best of a few copies of 64 MiB with nothing beside them.
struct CudaProbe {
  int32_t device = 0;
  std::string name;
  int32_t compute_capability = 0;  // 90 for 9.0
  int64_t memory_bytes = 0;
  int64_t free_bytes = 0;
  std::string problem;       // why it cannot be used; then there are no rates
  double to_host = 0;        // to pinned memory
  double from_host = 0;      // from pinned memory
  double within = 0;         // from one place of it to another
  int32_t peer = -1;         // the next device; -1: there is none that could be measured
  double from_peer = 0;      // by the devices' own copy
  bool peer_direct = false;  // without a way through the host
  MemoryKind memory = MemoryKind::kCuda;  // as a transport sees it
};

// NOT_FOUND: no device, or no driver. UNIMPLEMENTED: this build has no CUDA.
absl::StatusOr<std::vector<CudaProbe>> ProbeCudaDevices();

}  // namespace baton
