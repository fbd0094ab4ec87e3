// What kernels share that round rows to e4m3, a block for each. Included by .cu files only.
#pragma once

#include <cstdint>

#include "engine/kernels/cuda/fp8.h"
#include "engine/kernels/cuda/ptx.h"

namespace baton {

// The larger one of `peak` and the magnitudes of two bf16. Magnitudes are compared as bits of f32:
// infinities and NaNs are the largest.
__device__ __forceinline__ uint32_t PeakOf(uint32_t peak, uint32_t packed) {
  return max(peak, max(packed << 16 & 0x7fffffffu, packed & 0x7fff0000u));
}

__device__ __forceinline__ uint32_t WarpMaxBits(uint32_t bits) {
#pragma unroll
  for (int lane = kWarpSize / 2; lane > 0; lane /= 2) {
    bits = max(bits, __shfl_xor_sync(kFullWarp, bits, lane));
  }
  return bits;
}

// Over the block, whose warps are whole; every thread gets it. Called once by a kernel. Static: a
// file has a copy of its own, so that race checkers know where its shared memory is.
__device__ static __forceinline__ uint32_t BlockMaxBits(uint32_t bits) {
  constexpr int kMaxWarps = 32;
  __shared__ uint32_t peaks[kMaxWarps];
  const int thread = static_cast<int>(threadIdx.x);
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  bits = WarpMaxBits(bits);
  if (thread % kWarpSize == 0) peaks[thread / kWarpSize] = bits;
  __syncthreads();
  const int lane = thread % kWarpSize;
  return WarpMaxBits(lane < warps ? peaks[lane] : 0u);
}

// Stores the scale of the block's row and returns what its numbers are multiplied with before they
// are rounded. `peak`: of the calling thread's numbers. Called once by a kernel.
__device__ static __forceinline__ float ScaleRow(uint32_t peak, float* scale) {
  const E4m3Scale found = E4m3ScaleOf(BlockMaxBits(peak));
  if (threadIdx.x == 0) *scale = found.scale;
  return found.inverse;
}

// Two words of two bf16 each.
__device__ __forceinline__ uint32_t FourE4m3(uint32_t first, uint32_t second, float inverse) {
  const float values[4] = {LowBf16(first), HighBf16(first), LowBf16(second), HighBf16(second)};
  uint32_t packed = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) packed |= uint32_t{ToE4m3(values[i] * inverse)} << (8 * i);
  return packed;
}
__device__ __forceinline__ uint2 EightE4m3(const uint4& numbers, float inverse) {
  return make_uint2(FourE4m3(numbers.x, numbers.y, inverse),
                    FourE4m3(numbers.z, numbers.w, inverse));
}
__device__ __forceinline__ uint32_t PeakOf(uint32_t peak, const uint4& numbers) {
  return PeakOf(PeakOf(PeakOf(PeakOf(peak, numbers.x), numbers.y), numbers.z), numbers.w);
}

}  // namespace baton
