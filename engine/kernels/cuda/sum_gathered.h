// Sums of what several devices have computed, in one order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/cuda/context.h"

namespace baton {

struct SumGatheredArgs {
  const float* parts = nullptr;  // [num_parts, count], device
  float* output = nullptr;       // [count], device: added from the first part to the last
  size_t count = 0;
  int32_t num_parts = 0;  // at least 1
};

void SumGathered(const CudaContext& context, const SumGatheredArgs& args);

}  // namespace baton
