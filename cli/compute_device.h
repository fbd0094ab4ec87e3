// Where a worker computes, as an operator says it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace baton {

struct ComputeDevice {
  bool cuda = false;  // else the CPU
  int32_t index = 0;  // that of the first process; the others of a worker have the next ones
};

// "cpu", "cuda" (the first), "cuda:N".
absl::StatusOr<ComputeDevice> ParseComputeDevice(const std::string& text);

// The devices of `count` workers, "cpu" or "cuda:N": those of "cuda:0,cuda:1" in turns, or one for
// all. INVALID_ARGUMENT: several that are not all GPUs, or no device.
absl::StatusOr<std::vector<std::string>> DevicesOfWorkers(const std::string& list, int32_t count);

// How many workers, itself among them, worker `worker` shares a GPU with at most. `devices`: as
// DevicesOfWorkers; `degrees`: how many GPUs each worker has, from that one on.
int32_t WorkersOnGpusOf(size_t worker, const std::vector<std::string>& devices,
                        const std::vector<int32_t>& degrees);
// The workers before worker `worker` that it shares a GPU with.
std::vector<size_t> WorkersBeforeOnGpusOf(size_t worker, const std::vector<std::string>& devices,
                                          const std::vector<int32_t>& degrees);

}  // namespace baton
