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

// One group of an int8 row, padded with zeros.
class KvGroup {
 public:
  explicit KvGroup(std::span<const float> values) {
    std::copy(values.begin(), values.end(), values_);
  }

  // The scale with the least squared error.
  Bf16 Round() {
    const float most = *std::max_element(values_, values_ + kKvScaleGroup);
    const float depth = 0 - *std::min_element(values_, values_ + kKvScaleGroup);
    Bf16 scale = ToBf16((most > depth ? most : -depth) / -128);
    const float first = ToFloat(scale);
    if (std::abs(first) <= 1e-37f) return scale;  // all levels are zero
    float least_error = RoundTo(scale);
    Bf16 tried = scale;
    for (int i = 1; i < 4; ++i) {
      ++tried.bits;
      const float growth = ToFloat(tried) / first;
      const float error = RoundTo(tried) * (growth * growth);
      if (error < least_error) {
        least_error = error;
        scale = tried;
      }
    }
    RoundTo(scale);
    return scale;
  }
  int8_t level(size_t i) const { return static_cast<int8_t>(levels_[i]); }

 private:
  // Returns the error, in squares of the scale.
  float RoundTo(Bf16 scale) {
    float sums[kKvScaleGroup / 2];
    const float inverse = 1 / ToFloat(scale);
    for (int i = 0; i < kKvScaleGroup; ++i) {
      const float exact = values_[i] * inverse;
      levels_[i] = std::clamp(std::rint(exact), -128.0f, 127.0f);
      const float off = exact - levels_[i];
      float& sum = sums[i % (kKvScaleGroup / 2)];
      sum = i < kKvScaleGroup / 2 ? off * off : std::fma(off, off, sum);
    }
    for (int half = kKvScaleGroup / 4; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
    }
    return sums[0];
  }

  float values_[kKvScaleGroup] = {};
  float levels_[kKvScaleGroup] = {};
};

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
    const size_t count = std::min<size_t>(kKvScaleGroup, values.size() - begin);
    KvGroup group(values.subspan(begin, count));
    scales.push_back(group.Round());
    for (size_t i = 0; i < count; ++i) put(group.level(i));
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
