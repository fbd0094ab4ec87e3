// Numbers of 8 bits, e4m3 (Micikevicius et al., arXiv 2209.05433): sign, 4 bits of exponent, 3 of
// mantissa, no infinity, largest 448. Rows of them have an f32 scale each.
//
// For the host and the device, with the same bits: the instructions that convert are there from 8.9
// on, and what is converted comes from memory, which takes longer.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

namespace baton {

inline constexpr float kE4m3Max = 448.0f;
inline constexpr uint32_t kF32Infinity = 0x7f800000u;

// Rounded to nearest, ties to even; what is larger than the largest becomes that. A NaN becomes
// the one without a sign: what arithmetic makes of its sign differs from the host to a device.
constexpr uint8_t ToE4m3(float value) {
  constexpr uint32_t kLeastNormal = 0x3c800000u;  // 2^-6
  constexpr uint32_t kBiases = (127 - 7) << 3;
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint8_t>(bits >> 24 & 0x80u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > kF32Infinity) return 0x7f;
  uint32_t code = 0;
  if (magnitude < kLeastNormal) {
    // In whole numbers of 2^-9: the unit of f32 near 2^14.
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p14f;
    code = std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(0x1p14f);
  } else {
    code = ((magnitude + 0x7ffffu + (magnitude >> 20 & 1u)) >> 20) - kBiases;
  }
  return sign | static_cast<uint8_t>(code < 0x7eu ? code : 0x7eu);
}

constexpr float FromE4m3(uint8_t code) {
  const uint32_t magnitude = code & 0x7fu;
  float value = static_cast<float>(magnitude) * 0x1p-9f;  // without an exponent
  if (magnitude >= 8) value = std::bit_cast<float>((magnitude + ((127 - 7) << 3)) << 20);
  if (magnitude == 0x7f) value = std::bit_cast<float>(0x7fc00000u);
  return (code & 0x80u) != 0 ? -value : value;
}

struct E4m3Rows {
  uint8_t* values = nullptr;  // [rows, width] e4m3, device
  float* scales = nullptr;    // [rows], device
};

// value = scale * e4m3, for a row whose largest magnitude has the bits `peak` as f32. What is not
// finite becomes a NaN of e4m3, and so do its products, as without rounding.
struct E4m3Scale {
  float scale = 0.0f;
  float inverse = 0.0f;  // 0, as the scale, for rows of zeros and numbers too small to have one
};
constexpr E4m3Scale E4m3ScaleOf(uint32_t peak) {
  const float scale = std::bit_cast<float>(peak) / kE4m3Max;
  if (!(scale > 0x1p-126f)) return {};
  return {scale, 1.0f / scale};
}

// Rounds a row as QuantizeRows does, and returns its scale. On the host.
inline float RoundRowToE4m3(std::span<const float> row, uint8_t* output) {
  uint32_t peak = 0;
  for (const float value : row) {
    const uint32_t magnitude = std::bit_cast<uint32_t>(value) & 0x7fffffffu;
    if (magnitude > peak) peak = magnitude;
  }
  const E4m3Scale scale = E4m3ScaleOf(peak);
  for (const float value : row) *output++ = ToE4m3(value * scale.inverse);
  return scale.scale;
}

}  // namespace baton
