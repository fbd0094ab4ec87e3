// Sums of what several devices have computed, in one order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/cuda/context.h"

namespace baton {

struct SumPartsArgs {
  const float* parts = nullptr;  // [num_parts, count], device
  float* output = nullptr;       // [count], device: added from the first part to the last
  size_t count = 0;
  int32_t num_parts = 0;  // at least 1
};

void SumParts(const CudaContext& context, const SumPartsArgs& args);

}  // namespace baton
