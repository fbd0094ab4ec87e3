// Arithmetic of the PTX ISA. Floating point is rounded to nearest, and keeps subnormal numbers
// where the name does not say ftz; approximate instructions give the nearest result, but where the
// ISA says that they give another. An f32 result that is no number is 0x7fffffff, as on devices.
//
// mul and add without .rn are rounded one by one, as "mul.rn" and "add.rn" are; ptxas may make one
// fma of them, so that bits which depend on such a pair may be others on a device.
#include <cmath>
#include <limits>

#include "tests/support/ptx/opcodes.h"
#include "tests/support/ptx/thread.h"

namespace baton::ptx {

namespace {

struct Add {
  template <typename T>
  T operator()(T x, T y) const {
    return static_cast<T>(x + y);
  }
};
struct Subtract {
  template <typename T>
  T operator()(T x, T y) const {
    return static_cast<T>(x - y);
  }
};
struct Multiply {
  template <typename T>
  T operator()(T x, T y) const {
    return static_cast<T>(x * y);
  }
};
// By zero: all ones, as NVIDIA's devices; the ISA leaves it open.
struct Divide {
  template <typename T>
  T operator()(T x, T y) const {
    if constexpr (!std::is_floating_point_v<T>) {
      if (y == 0) return static_cast<T>(-1);
    }
    if constexpr (std::is_integral_v<T> && std::is_signed_v<T>) {
      if (y == -1) return static_cast<T>(0 - static_cast<std::make_unsigned_t<T>>(x));
    }
    return static_cast<T>(x / y);
  }
};
struct Remainder {
  template <typename T>
  T operator()(T x, T y) const {
    if (y == 0) return x;
    if constexpr (std::is_signed_v<T>) {
      if (y == -1) return 0;
    }
    return static_cast<T>(x % y);
  }
};
// A NaN is left out, if the other is a number.
struct Minimum {
  template <typename T>
  T operator()(T x, T y) const {
    if constexpr (std::is_floating_point_v<T>) {
      if (x == y) return std::signbit(x) ? x : y;
      return std::fmin(x, y);
    } else {
      return y < x ? y : x;
    }
  }
};
struct Maximum {
  template <typename T>
  T operator()(T x, T y) const {
    if constexpr (std::is_floating_point_v<T>) {
      if (x == y) return std::signbit(x) ? y : x;
      return std::fmax(x, y);
    } else {
      return x < y ? y : x;
    }
  }
};
struct MultiplyHigh {
  uint32_t operator()(uint32_t x, uint32_t y) const {
    return static_cast<uint32_t>((uint64_t{x} * y) >> 32);
  }
  int32_t operator()(int32_t x, int32_t y) const {
    return static_cast<int32_t>((int64_t{x} * y) >> 32);
  }
  uint64_t operator()(uint64_t x, uint64_t y) const {
    __extension__ using Wide = unsigned __int128;
    return static_cast<uint64_t>((Wide{x} * y) >> 64);
  }
};
// Within 2 units in the last place; 0 where the ISA says that large divisors give that.
struct DivideApproximately {
  float operator()(float x, float y) const {
    constexpr float kLarge = 0x1p126f;
    if (std::fabs(y) > kLarge && std::isfinite(y)) {
      if (std::isinf(x)) return std::numeric_limits<float>::quiet_NaN();
      return x * std::copysign(0.0f, y);
    }
    return x / y;
  }
};

struct Negate {
  template <typename T>
  T operator()(T x) const {
    return static_cast<T>(std::is_floating_point_v<T> ? -x : 0 - x);
  }
};
struct Absolute {
  template <typename T>
  T operator()(T x) const {
    if constexpr (std::is_floating_point_v<T>) {
      return std::fabs(x);
    } else {
      const auto bits = static_cast<std::make_unsigned_t<T>>(x);
      return static_cast<T>(x < 0 ? 0 - bits : bits);
    }
  }
};
struct SquareRoot {
  float operator()(float x) const { return std::sqrt(x); }
  double operator()(double x) const { return std::sqrt(x); }
};
struct Reciprocal {
  template <typename T>
  T operator()(T x) const {
    return T{1} / x;
  }
};
float FlushToZero(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
}
// A double of 20 bits and an exponent, for a division that goes on from there.
struct ReciprocalSeed {
  double operator()(double x) const {
    if (std::fpclassify(x) == FP_SUBNORMAL) x = std::copysign(0.0, x);
    const double exact = 1.0 / x;
    if (std::fpclassify(exact) == FP_SUBNORMAL) return std::copysign(0.0, exact);
    return std::bit_cast<double>(std::bit_cast<uint64_t>(exact) & ~uint64_t{0xffffffff});
  }
};
struct Exp2 {
  float operator()(float x) const { return std::exp2(x); }
};
struct Exp2Flushed {
  float operator()(float x) const { return FlushToZero(std::exp2(FlushToZero(x))); }
};
struct Log2 {
  float operator()(float x) const { return std::log2(x); }
};

template <typename T>
T Canonical(T x) {
  if constexpr (std::is_same_v<T, float>) {
    if (std::isnan(x)) return std::bit_cast<float>(0x7fffffffu);
  }
  return x;
}

template <typename T, typename Op>
void RunUnary(Thread& thread, const Instruction& instruction) {
  Set<T>(thread, instruction, 0, Canonical(Op{}(Get<T>(thread, instruction, 1))));
}
// neg and abs: nothing but the sign.
template <typename T, typename Op>
void RunSign(Thread& thread, const Instruction& instruction) {
  Set<T>(thread, instruction, 0, Op{}(Get<T>(thread, instruction, 1)));
}
template <typename T, typename Op>
void RunBinary(Thread& thread, const Instruction& instruction) {
  Set<T>(thread, instruction, 0,
         Canonical(Op{}(Get<T>(thread, instruction, 1), Get<T>(thread, instruction, 2))));
}
template <typename T>
void RunFma(Thread& thread, const Instruction& instruction) {
  Set<T>(thread, instruction, 0,
         Canonical(std::fma(Get<T>(thread, instruction, 1), Get<T>(thread, instruction, 2),
                            Get<T>(thread, instruction, 3))));
}
template <typename T>
void RunMad(Thread& thread, const Instruction& instruction) {
  Set<T>(thread, instruction, 0,
         static_cast<T>(Get<T>(thread, instruction, 1) * Get<T>(thread, instruction, 2) +
                        Get<T>(thread, instruction, 3)));
}
template <typename Narrow, typename Wide>
Wide WideProduct(const Thread& thread, const Instruction& instruction) {
  return static_cast<Wide>(Wide{Get<Narrow>(thread, instruction, 1)} *
                           Wide{Get<Narrow>(thread, instruction, 2)});
}
template <typename Narrow, typename Wide>
void RunMulWide(Thread& thread, const Instruction& instruction) {
  Set<Wide>(thread, instruction, 0, WideProduct<Narrow, Wide>(thread, instruction));
}
template <typename Narrow, typename Wide>
void RunMadWide(Thread& thread, const Instruction& instruction) {
  const auto product = static_cast<uint64_t>(WideProduct<Narrow, Wide>(thread, instruction));
  Set<Wide>(thread, instruction, 0,
            static_cast<Wide>(product + Get<uint64_t>(thread, instruction, 3)));
}

template <typename T>
void AddFloat(Opcodes& opcodes, const std::string& type) {
  for (const char* rounding : {".", ".rn."}) {
    opcodes.Add("add" + (rounding + type), &RunBinary<T, Add>);
    opcodes.Add("sub" + (rounding + type), &RunBinary<T, Subtract>);
    opcodes.Add("mul" + (rounding + type), &RunBinary<T, Multiply>);
  }
  opcodes.Add("div.rn." + type, &RunBinary<T, Divide>);
  opcodes.Add("min." + type, &RunBinary<T, Minimum>);
  opcodes.Add("max." + type, &RunBinary<T, Maximum>);
  opcodes.Add("neg." + type, &RunSign<T, Negate>);
  opcodes.Add("abs." + type, &RunSign<T, Absolute>);
  opcodes.Add("sqrt.rn." + type, &RunUnary<T, SquareRoot>);
  opcodes.Add("rcp.rn." + type, &RunUnary<T, Reciprocal>);
  opcodes.Add("fma.rn." + type, &RunFma<T>);
}

// What wraps around is computed without signs: the bits are the same. 16 bits are computed as 32,
// since C++ would take ints with signs.
template <typename T>
void AddInteger(Opcodes& opcodes, const std::string& type) {
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  opcodes.Add("add." + type, &RunBinary<Bits, Add>);
  opcodes.Add("sub." + type, &RunBinary<Bits, Subtract>);
  opcodes.Add("mul.lo." + type, &RunBinary<Bits, Multiply>);
  opcodes.Add("mad.lo." + type, &RunMad<Bits>);
  opcodes.Add("neg." + type, &RunUnary<Bits, Negate>);
  opcodes.Add("div." + type, &RunBinary<T, Divide>);
  opcodes.Add("rem." + type, &RunBinary<T, Remainder>);
  opcodes.Add("min." + type, &RunBinary<T, Minimum>);
  opcodes.Add("max." + type, &RunBinary<T, Maximum>);
}

}  // namespace

void AddArithmetic(Opcodes& opcodes) {
  AddFloat<float>(opcodes, "f32");
  AddFloat<double>(opcodes, "f64");
  AddInteger<int16_t>(opcodes, "s16");
  AddInteger<uint16_t>(opcodes, "u16");
  AddInteger<int32_t>(opcodes, "s32");
  AddInteger<uint32_t>(opcodes, "u32");
  AddInteger<int64_t>(opcodes, "s64");
  AddInteger<uint64_t>(opcodes, "u64");
  opcodes.Add("abs.s32", &RunUnary<int32_t, Absolute>);
  opcodes.Add("abs.s64", &RunUnary<int64_t, Absolute>);
  opcodes.Add("mul.hi.u32", &RunBinary<uint32_t, MultiplyHigh>);
  opcodes.Add("mul.hi.s32", &RunBinary<int32_t, MultiplyHigh>);
  opcodes.Add("mul.hi.u64", &RunBinary<uint64_t, MultiplyHigh>);
  opcodes.Add("mul.wide.u16", &RunMulWide<uint16_t, uint32_t>);
  opcodes.Add("mul.wide.s16", &RunMulWide<int16_t, int32_t>);
  opcodes.Add("mul.wide.u32", &RunMulWide<uint32_t, uint64_t>);
  opcodes.Add("mul.wide.s32", &RunMulWide<int32_t, int64_t>);
  opcodes.Add("mad.wide.u32", &RunMadWide<uint32_t, uint64_t>);
  opcodes.Add("mad.wide.s32", &RunMadWide<int32_t, int64_t>);
  opcodes.Add("div.approx.f32", &RunBinary<float, DivideApproximately>);
  opcodes.Add("rcp.approx.ftz.f64", &RunUnary<double, ReciprocalSeed>);
  opcodes.Add("ex2.approx.f32", &RunUnary<float, Exp2>);
  opcodes.Add("ex2.approx.ftz.f32", &RunUnary<float, Exp2Flushed>);
  opcodes.Add("lg2.approx.f32", &RunUnary<float, Log2>);
}

}  // namespace baton::ptx
