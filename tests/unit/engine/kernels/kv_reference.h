// Rows of a KV cache, one number after the other: what the kernels must write and read.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "common/kv_layout.h"
#include "engine/kernels/bf16.h"

namespace baton {

inline void StoreKvRow(KvDtype dtype, std::span<const float> values, std::byte* row) {
  const auto put = [&row](auto value) {
    std::memcpy(row, &value, sizeof(value));
    row += sizeof(value);
  };
  if (dtype != KvDtype::kInt8) {
    for (const float value : values) dtype == KvDtype::kF32 ? put(value) : put(ToBf16(value));
    return;
  }
  std::vector<Bf16> scales;
  for (size_t begin = 0; begin < values.size(); begin += kKvScaleGroup) {
    const auto group =
        values.subspan(begin, std::min<size_t>(kKvScaleGroup, values.size() - begin));
    float largest = 0;
    for (const float value : group) largest = std::max(largest, std::abs(value));
    scales.push_back(ToBf16(largest / 127));
    const float scale = ToFloat(scales.back());
    for (const float value : group) {
      const float level = std::rint(scale > 1e-37f ? value * (1 / scale) : 0.0f);
      put(static_cast<int8_t>(std::clamp(level, -127.0f, 127.0f)));
    }
  }
  for (const Bf16 scale : scales) put(scale);
}

inline std::vector<float> LoadKvRow(KvDtype dtype, int32_t head_dim, const std::byte* row) {
  std::vector<float> values;
  const auto get = [row](size_t at, auto value) {
    std::memcpy(&value, row + at, sizeof(value));
    return value;
  };
  for (size_t i = 0; i < static_cast<size_t>(head_dim); ++i) {
    if (dtype == KvDtype::kF32) {
      values.push_back(get(4 * i, 0.0f));
    } else if (dtype == KvDtype::kBf16) {
      values.push_back(ToFloat(get(2 * i, Bf16{})));
    } else {
      const size_t scale = static_cast<size_t>(head_dim) + i / kKvScaleGroup * 2;
      values.push_back(get(i, int8_t{}) * ToFloat(get(scale, Bf16{})));
    }
  }
  return values;
}

}  // namespace baton
