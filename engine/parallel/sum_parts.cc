#include "engine/parallel/sum_parts.h"

#include <algorithm>
#include <cstring>

namespace baton {
namespace {

constexpr size_t kTile = 1024;  // numbers: what is summed so far stays in L1

// A constant count, which the compiler makes vectors of.
void AddTile(const float* __restrict part, float* __restrict sum) {
  for (size_t i = 0; i < kTile; ++i) sum[i] += part[i];
}

}  // namespace

void SumParts(std::span<const float* const> parts, std::span<float> sum) {
  for (size_t begin = 0; begin < sum.size(); begin += kTile) {
    const size_t count = std::min(kTile, sum.size() - begin);
    float* const tile = sum.data() + begin;
    std::memcpy(tile, parts[0] + begin, count * sizeof(float));
    for (const float* part : parts.subspan(1)) {
      if (count == kTile) {
        AddTile(part + begin, tile);
        continue;
      }
      for (size_t i = 0; i < count; ++i) tile[i] += part[begin + i];
    }
  }
}

}  // namespace baton
