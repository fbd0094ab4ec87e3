#include "engine/kernels/cuda/quantized_weights.h"

#include <algorithm>
#include <vector>

#include "common/check.h"
#include "engine/kernels/quantize_weights.h"

namespace baton {
namespace {

constexpr int32_t kLanes = 32;
constexpr size_t kMaxLevelBytes = size_t{kQuantTileOutputs} * kQuantGroup;  // of a group

// One group of a tile's outputs, as the quantizer leaves it.
struct Group {
  Bf16 scales[kQuantTileOutputs];
  uint8_t levels[kMaxLevelBytes];
};

void Quantize(WeightElement element, std::span<const float* const> values, int32_t count,
              Group* group) {
  const bool int4 = element == WeightElement::kInt4;
  std::ranges::fill(group->scales, Bf16{0});
  // Levels of zero.
  std::ranges::fill(group->levels, static_cast<uint8_t>(int4 ? kInt4Bias * 0x11 : kInt8Bias));
  if (count <= 0) return;
  const QuantizeGroupArgs args = {.rows = values.data(),
                                  .num_rows = values.size(),
                                  .count = static_cast<size_t>(count),
                                  .columns = kQuantTileOutputs,
                                  .scales = group->scales,
                                  .levels = group->levels};
  if (int4) {
    QuantizeGroupToInt4(args);
  } else {
    QuantizeGroupToInt8(args);
  }
}

uint32_t Int8Level(const Group& group, int32_t output, int32_t input) {
  return group.levels[(input / 4 * kQuantTileOutputs + output) * 4 + input % 4];
}
uint32_t Int4Level(const Group& group, int32_t output, int32_t input) {
  const uint32_t both = group.levels[(input / 8 * kQuantTileOutputs + output) * 4 + input % 4];
  return input % 8 < 4 ? both & 15 : both >> 4;
}

// The place of a word's i-th level among its neighbours: every second one, then the others.
constexpr int32_t Neighbour(int32_t i, int32_t count) {
  return i < count / 2 ? 2 * i : 2 * (i - count / 2) + 1;
}

// `levels`: the chunk's.
void PlaceInt8(const Group& group, int32_t index, uint32_t* levels) {
  for (int32_t lane = 0; lane < kLanes; ++lane) {
    for (int32_t word = 0; word < 4; ++word) {
      const int32_t output = lane / 4 + 8 * (word % 2);
      const int32_t first = 8 * (lane % 4) + 4 * (word / 2);
      uint32_t packed = 0;
      for (int32_t i = 0; i < 4; ++i) {
        packed |= Int8Level(group, output, first + Neighbour(i, 4)) << (8 * i);
      }
      levels[(index * kLanes + lane) * 4 + word] = packed;
    }
  }
}

void PlaceInt4(const Group& group, int32_t index, uint32_t* levels) {
  for (int32_t lane = 0; lane < kLanes; ++lane) {
    for (int32_t half = 0; half < 2; ++half) {
      uint32_t packed = 0;
      for (int32_t i = 0; i < 8; ++i) {
        packed |= Int4Level(group, lane / 4 + 8 * half, 8 * (lane % 4) + Neighbour(i, 8))
                  << (4 * i);
      }
      levels[(index / 2 * kLanes + lane) * 4 + index % 2 * 2 + half] = packed;
    }
  }
}

}  // namespace

void PackQuantizedTile(WeightElement element, std::span<const float* const> rows, int32_t k,
                       std::byte* tile) {
  BATON_CHECK(IsQuantized(element) && rows.size() <= kQuantTileOutputs) << rows.size();
  Group group;
  std::vector<const float*> values(rows.begin(), rows.end());  // each row's part of the group
  for (int32_t begin = 0; begin < k; tile += QuantChunkBytes(element)) {
    auto* scales = reinterpret_cast<Bf16*>(tile);
    auto* levels = reinterpret_cast<uint32_t*>(tile + kQuantScaleBytes);
    for (int32_t index = 0; index < kQuantChunkGroups; ++index, begin += kQuantGroup) {
      const int32_t count = std::min(kQuantGroup, k - begin);
      Quantize(element, values, count, &group);
      for (int32_t output = 0; output < kQuantTileOutputs; ++output) {
        scales[(output % 8 * kQuantChunkGroups + index) * 2 + output / 8] = group.scales[output];
      }
      if (element == WeightElement::kInt4) {
        PlaceInt4(group, index, levels);
      } else {
        PlaceInt8(group, index, levels);
      }
      for (const float*& row : values) row += std::max(count, 0);
    }
  }
}

}  // namespace baton
