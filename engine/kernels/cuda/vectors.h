// Several numbers in one load or store. Included by .cu files only.
#pragma once

#include <cstdint>

#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/ptx.h"

namespace baton {

inline constexpr int64_t kVectorBytes = 16;

// Whether 16 bytes may be moved at once at all of `pointers`.
template <typename... T>
bool AlignedForVectors(const T*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % kVectorBytes == 0) && ...);
}

// `from`, `to`: aligned to the size of what is moved.
__device__ __forceinline__ void LoadBf16(const Bf16* from, float (&values)[8]) {
  const uint4 packed = *reinterpret_cast<const uint4*>(from);
  const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    values[2 * i] = LowBf16(words[i]);
    values[2 * i + 1] = HighBf16(words[i]);
  }
}
__device__ __forceinline__ void LoadBf16(const Bf16* from, float (&values)[4]) {
  const uint2 packed = *reinterpret_cast<const uint2*>(from);
  values[0] = LowBf16(packed.x);
  values[1] = HighBf16(packed.x);
  values[2] = LowBf16(packed.y);
  values[3] = HighBf16(packed.y);
}
__device__ __forceinline__ void StoreBf16(const float (&values)[8], Bf16* to) {
  *reinterpret_cast<uint4*>(to) =
      make_uint4(PackBf16(values[0], values[1]), PackBf16(values[2], values[3]),
                 PackBf16(values[4], values[5]), PackBf16(values[6], values[7]));
}
__device__ __forceinline__ void StoreBf16(const float (&values)[4], Bf16* to) {
  *reinterpret_cast<uint2*>(to) =
      make_uint2(PackBf16(values[0], values[1]), PackBf16(values[2], values[3]));
}

}  // namespace baton
