// What a lane holds of a chunk of quantized weights, and how its levels become numbers. Included by
// .cu files only. See quantized_weights.h for the layout.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/cuda/ptx.h"
#include "engine/kernels/cuda/quantized_weights.h"

namespace baton {

template <WeightElement kElement>
struct QuantizedLane {
  static constexpr int kLoads = kElement == WeightElement::kInt4 ? 2 : 4;
  uint4 scales;
  uint4 levels[kLoads];

  __device__ __forceinline__ void Load(const std::byte* chunk, int lane) {
    scales = __ldcs(reinterpret_cast<const uint4*>(chunk) + lane / 4);
    const auto* source = reinterpret_cast<const uint4*>(chunk + kQuantScaleBytes) + lane;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) levels[i] = __ldcs(source + i * kWarpSize);
  }

  // Of output g in the lower half, of output g + 8 in the upper one.
  __device__ __forceinline__ uint32_t Scales(int group) const {
    return group == 0 ? scales.x : group == 1 ? scales.y : group == 2 ? scales.z : scales.w;
  }
};

// Levels less their bias, whole numbers that bf16 holds exactly. The level is put into the lower
// bits of 128.0, whose unit there is 1.
//
// Those in the bytes 0 and 2 of `word`. The upper bit of a level has no place in 128 + x: it
// chooses what is subtracted, 256 or 128.
__device__ __forceinline__ uint32_t Int8Pair(uint32_t word) {
  const uint32_t lower_bits = (word & 0x007f007fu) | 0x43004300u;
  const uint32_t minus = (word & 0x00800080u) ^ 0xc380c380u;
  return FmaBf16Pair(lower_bits, 0x3f803f80u, minus);
}
// Those in the bits 0 to 3 and 16 to 19.
__device__ __forceinline__ uint32_t Int4Pair(uint32_t word) {
  return FmaBf16Pair((word & 0x000f000fu) | 0x43004300u, 0x3f803f80u, 0xc308c308u);
}

// The lane's weights of a group, without scales, as two A fragments of MmaBf16: in pairs[j][2p] of
// output g, in pairs[j][2p + 1] of output g + 8, the inputs 8t + 4j + 2p and the next one.
template <WeightElement kElement>
__device__ __forceinline__ void UnpackGroup(const QuantizedLane<kElement>& weights, int group,
                                            uint32_t (&pairs)[2][4]) {
  if constexpr (kElement == WeightElement::kInt4) {
    const uint4 both = weights.levels[group / 2];
    const uint32_t first = group % 2 == 0 ? both.x : both.z;
    const uint32_t second = group % 2 == 0 ? both.y : both.w;
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      pairs[pair / 2][pair % 2 * 2] = Int4Pair(first >> (4 * pair));
      pairs[pair / 2][pair % 2 * 2 + 1] = Int4Pair(second >> (4 * pair));
    }
  } else {
    const uint4 levels = weights.levels[group];
    const uint32_t words[2][2] = {{levels.x, levels.y}, {levels.z, levels.w}};
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        pairs[j][2 * pair] = Int8Pair(words[j][0] >> (8 * pair));
        pairs[j][2 * pair + 1] = Int8Pair(words[j][1] >> (8 * pair));
      }
    }
  }
}

}  // namespace baton
