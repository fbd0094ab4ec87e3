// The gated activation, for kernels that end in it. Included by .cu files only.
#pragma once

#include <cstdint>

#include "engine/kernels/cuda/ptx.h"

namespace baton {

// silu(gate) * up
__device__ __forceinline__ float Gated(float gate, float up) {
  return __fdividef(gate, 1.0f + __expf(-gate)) * up;
}

}  // namespace baton
