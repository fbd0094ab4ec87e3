// For measurements: leaves nothing of what was there in a device's L2.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "common/check.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kernels/cuda/sum_gathered.h"

namespace baton {

// Reads an array as large as the L2. Writing one would leave it dirty, and what is timed next would
// have to share the memory's bandwidth with what is written back.
class CudaCacheFlush {
 public:
  static absl::StatusOr<CudaCacheFlush> Create(const CudaContext& context) {
    const auto numbers = static_cast<size_t>(context.info().l2_bytes) / sizeof(float);
    const size_t count = std::max<size_t>(numbers / kParts, 1);
    ASSIGN_OR_RETURN(auto parts, DeviceArray<float>::Create(kParts * count));
    ASSIGN_OR_RETURN(auto sums, DeviceArray<float>::Create(count));
    context.Note(cudaMemsetAsync(parts.data(), 0, parts.bytes(), context.stream()), "cache flush");
    return CudaCacheFlush(std::move(parts), std::move(sums));
  }

  // Enqueues it.
  void Run(const CudaContext& context) {
    SumGathered(context, {.parts = parts_.data(),
                          .output = sums_.data(),
                          .count = sums_.size(),
                          .num_parts = static_cast<int32_t>(kParts)});
  }

 private:
  static constexpr size_t kParts = 16;  // so that a 16th of it is written
  CudaCacheFlush(DeviceArray<float> parts, DeviceArray<float> sums)
      : parts_(std::move(parts)), sums_(std::move(sums)) {}

  DeviceArray<float> parts_;  // [kParts, count]
  DeviceArray<float> sums_;   // [count], of no interest
};

}  // namespace baton
