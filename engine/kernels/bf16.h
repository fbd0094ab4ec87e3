// The bf16 storage type: the upper half of an IEEE f32.
//
// Always inlined, and nothing of the standard library: the kernel files, which are compiled with
// wider instruction sets, must not leave out-of-line copies behind that the linker could pick.
// constexpr lets device code call them.
#pragma once

#include <cstdint>

namespace baton {

struct Bf16 {  // trivial: uninitialised unless a value is given
  uint16_t bits;
  friend bool operator==(const Bf16&, const Bf16&) = default;
};

[[gnu::always_inline]] constexpr float ToFloat(Bf16 value) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(value.bits) << 16);
}

// Round to nearest, ties to even. A NaN stays a (quiet) NaN.
[[gnu::always_inline]] constexpr Bf16 ToBf16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return Bf16{static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return Bf16{static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

// IEEE half precision to f32, exact.
[[gnu::always_inline]] constexpr float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) {  // infinity, NaN
    return __builtin_bit_cast(float, sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  }
  if (magnitude < 0x400u) {  // zero, subnormal: magnitude * 2^-24
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    return sign != 0 ? -value : value;
  }
  return __builtin_bit_cast(float, sign | ((magnitude + (112u << 10)) << 13));
}

}  // namespace baton
