// How weights are rounded, one number after the other: what quantize_weights.h must do bit for bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include "engine/kernels/bf16.h"
#include "engine/kernels/quantize.h"

namespace baton {

struct QuantGroup {
  Bf16 scale;
  uint8_t levels[kQuantGroup];
};

// Of the scales tried, the one with the least squared error, the earlier one of two.
class ScaleSearch {
 public:
  ScaleSearch(std::span<const float> values, int32_t least, int32_t most, Bf16 first)
      : values_(values), least_(least), most_(most), scale_(first) {
    least_error_ = Round(first, levels_);
  }

  void Try(Bf16 scale) {
    int32_t levels[kQuantGroup];
    const float error = Round(scale, levels);
    if (!(error < least_error_)) return;
    least_error_ = error;
    scale_ = scale;
    std::copy_n(levels, values_.size(), levels_);
  }

  // The scale that fits the levels found so far best.
  Bf16 FittingScale() const {
    float products = 0;
    float squares = 0;
    for (size_t i = 0; i < values_.size(); ++i) {
      const auto level = static_cast<float>(levels_[i]);
      products += level * values_[i];
      squares += level * level;
    }
    return squares == 0 ? scale_ : ToBf16(products / squares);
  }

  QuantGroup Best(int32_t bias) const {
    QuantGroup group{.scale = scale_};
    for (size_t i = 0; i < kQuantGroup; ++i) {
      group.levels[i] = static_cast<uint8_t>((i < values_.size() ? levels_[i] : 0) + bias);
    }
    return group;
  }

 private:
  // To levels of `scale`; returns the squared error.
  float Round(Bf16 scale, int32_t* levels) const {
    const float step = ToFloat(scale);
    if (!std::isfinite(step)) return std::numeric_limits<float>::infinity();
    const float inverse = std::isfinite(1 / step) ? 1 / step : 0;
    float error = 0;
    for (size_t i = 0; i < values_.size(); ++i) {
      const float level = std::clamp(values_[i] * inverse, float(least_), float(most_));
      levels[i] = static_cast<int32_t>(std::lrint(level));
      const float off = values_[i] - step * static_cast<float>(levels[i]);
      error += off * off;
    }
    return error;
  }

  const std::span<const float> values_;
  const int32_t least_;
  const int32_t most_;
  Bf16 scale_;
  float least_error_ = 0;
  int32_t levels_[kQuantGroup] = {};
};

// The number with the largest magnitude.
inline float Peak(std::span<const float> values) {
  float peak = 0;
  for (const float value : values) {
    if (std::abs(value) > std::abs(peak)) peak = value;
  }
  return peak;
}

inline QuantGroup ReferenceInt8(std::span<const float> values) {
  Bf16 scale = ToBf16(Peak(values) / -128);
  ScaleSearch search(values, -128, 127, scale);
  for (int i = 1; i < 8; ++i) {
    ++scale.bits;
    search.Try(scale);
  }
  return search.Best(kInt8Bias);
}

inline QuantGroup ReferenceInt4(std::span<const float> values) {
  const float peak = Peak(values);
  ScaleSearch search(values, -8, 7, ToBf16(peak / -8));
  for (const float reach : {-9.5f, -9.0f, -8.5f, -7.5f, -7.0f, 7.0f, 7.5f, 8.0f, 8.5f}) {
    search.Try(ToBf16(peak / reach));
  }
  for (int i = 0; i < 2; ++i) search.Try(search.FittingScale());
  return search.Best(kInt4Bias);
}

}  // namespace baton
