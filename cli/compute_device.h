// Where a worker computes, as an operator says it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/runtime/engine.h"

namespace baton {

struct ComputeDevice {
  bool cuda = false;  // else the CPU
  int32_t index = 0;
};

// "cpu", "cuda" (the first), "cuda:N".
absl::StatusOr<ComputeDevice> ParseComputeDevice(const std::string& text);
// What makes engines there. A build without CUDA has one that says so.
EngineLoader EngineLoaderOf(const ComputeDevice& device);

// The devices of `count` workers, "cpu" or "cuda:N": those of "cuda:0,cuda:1" in turns, or one for
// all. INVALID_ARGUMENT: several that are not all GPUs, or no device.
absl::StatusOr<std::vector<std::string>> DevicesOfWorkers(const std::string& list, int32_t count);

}  // namespace baton
