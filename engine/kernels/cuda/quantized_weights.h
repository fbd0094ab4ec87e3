// How int8 and int4 weights lie in device memory: the levels and scales of the CPU's formats (see
// engine/kernels/quantize.h), in the order in which the lanes of a warp multiply them.
//
// A tile is 16 outputs by all inputs, which are cut into chunks of 128, four groups each; absent
// inputs have the scale or the weight zero. Tiles follow one another, and so do a tile's chunks:
//
//   | scales: 128 bytes | levels: 2,048 bytes of int8, 1,024 of int4 |
//
//   scales  [8 (g)] [4 groups] { output g, output g + 8 } bf16
//   int8    [4 groups] [32 lanes] [2 (j)] { output g, output g + 8 } word
//   int4    [2 pairs of groups] [32 lanes] [2 groups] { output g, output g + 8 } word
//
// Lane 4 * g + t has the inputs 8t … 8t + 7 of each group: of int8 the inputs 8t + 4j … + 3 in a
// word of bytes 0, 2, 1, 3; of int4 all eight in a word of half-bytes 0, 2, 4, 6, 1, 3, 5, 7. So
// two neighbours lie 16 bits apart, as mma.sync wants two bf16, and eight neighbouring activations
// are what the lane needs of the other factor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/kernels/kernel_table.h"
#include "engine/kernels/quantize.h"

namespace baton {

inline constexpr int32_t kQuantTileOutputs = 16;
inline constexpr int32_t kQuantChunkGroups = 4;
inline constexpr int32_t kQuantChunkInputs = kQuantChunkGroups * kQuantGroup;
inline constexpr int32_t kQuantScaleBytes =
    kQuantTileOutputs * kQuantChunkGroups * static_cast<int32_t>(sizeof(Bf16));

constexpr int32_t NumQuantTiles(int32_t n) {
  return (n + kQuantTileOutputs - 1) / kQuantTileOutputs;
}
constexpr int32_t NumQuantChunks(int32_t k) {
  return (k + kQuantChunkInputs - 1) / kQuantChunkInputs;
}
constexpr int32_t QuantChunkBytes(WeightElement element) {
  return kQuantTileOutputs * kQuantChunkGroups * static_cast<int32_t>(QuantGroupBytes(element));
}
constexpr int64_t QuantTileBytes(WeightElement element, int32_t k) {
  return int64_t{NumQuantChunks(k)} * QuantChunkBytes(element);
}

// Rounds the weights of up to 16 outputs, `rows[i]`: [k], and writes their tile, QuantTileBytes.
// The same levels and scales as PackedMatrix has. On the host. REQUIRES: IsQuantized(element).
void PackQuantizedTile(WeightElement element, std::span<const float* const> rows, int32_t k,
                       std::byte* tile);

}  // namespace baton
