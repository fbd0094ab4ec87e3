// cvt. To integers: what is too large becomes the largest; a NaN 0, but the highest bit alone where
// one of the two types has 64 bits.
#include <bit>
#include <cmath>
#include <limits>

#include "engine/kernels/bf16.h"
#include "tests/support/ptx/opcodes.h"
#include "tests/support/ptx/thread.h"

namespace baton::ptx {

namespace {

template <typename To, typename From>
void RunPlain(Thread& thread, const Instruction& instruction) {
  Set<To>(thread, instruction, 0, static_cast<To>(Get<From>(thread, instruction, 1)));
}

template <typename T>
T ToNearest(T x) {
  return std::nearbyint(x);
}
template <typename T>
T TowardsZero(T x) {
  return std::trunc(x);
}
template <typename T>
T Down(T x) {
  return std::floor(x);
}
template <typename T>
T Up(T x) {
  return std::ceil(x);
}

template <typename To, typename From, From (*kRound)(From)>
void RunToInteger(Thread& thread, const Instruction& instruction) {
  const From rounded = kRound(Get<From>(thread, instruction, 1));
  // Both are exact, the upper one as one more than the largest.
  const From lowest = static_cast<From>(std::numeric_limits<To>::min());
  const From beyond = std::ldexp(From{1}, std::numeric_limits<To>::digits);
  To result = 0;
  if (rounded >= beyond) {
    result = std::numeric_limits<To>::max();
  } else if (rounded < lowest) {
    result = std::numeric_limits<To>::min();
  } else if (!std::isnan(rounded)) {
    result = static_cast<To>(rounded);
  } else if (sizeof(From) == 8 || sizeof(To) == 8) {
    result = static_cast<To>(uint64_t{1} << (8 * sizeof(To) - 1));
  }
  Set<To>(thread, instruction, 0, result);
}
template <typename T, T (*kRound)(T)>
void RunToWhole(Thread& thread, const Instruction& instruction) {
  Set<T>(thread, instruction, 0, kRound(Get<T>(thread, instruction, 1)));
}

uint16_t Bf16Bits(float value) { return std::isnan(value) ? 0x7fff : ToBf16(value).bits; }
uint32_t Bf16Pair(float low, float high) {
  return uint32_t{Bf16Bits(low)} | uint32_t{Bf16Bits(high)} << 16;
}
void RunToBf16(Thread& thread, const Instruction& instruction) {
  Set<uint16_t>(thread, instruction, 0, Bf16Bits(Get<float>(thread, instruction, 1)));
}
// The first source becomes the upper half.
void RunToBf16Pair(Thread& thread, const Instruction& instruction) {
  Set<uint32_t>(thread, instruction, 0,
                Bf16Pair(Get<float>(thread, instruction, 2), Get<float>(thread, instruction, 1)));
}
float Half(uint32_t pair, bool upper) {
  return ToFloat(Bf16{static_cast<uint16_t>(upper ? pair >> 16 : pair)});
}
// To the odd one of the two numbers around an inexact result, so that rounding it once more, to
// fewer bits, is as rounding once. `rest`: what is missing of the exact one.
template <typename T, typename Bits>
T ToOdd(T result, double rest) {
  const auto bits = std::bit_cast<Bits>(result);
  if (rest == 0 || std::isnan(rest) || bits % 2 == 1) return result;
  return std::nextafter(
      result, rest > 0 ? std::numeric_limits<T>::infinity() : -std::numeric_limits<T>::infinity());
}
// The product of two bf16 is exact in double.
float FmaToOdd(float a, float b, float c) {
  const double product = double{a} * double{b};
  const double sum = product + double{c};
  const double of_c = sum - product;
  const double rest = (product - (sum - of_c)) + (double{c} - of_c);
  const double odd = ToOdd<double, uint64_t>(sum, rest);
  const auto narrow = static_cast<float>(odd);
  return ToOdd<float, uint32_t>(narrow, odd - double{narrow});
}
void RunFmaBf16Pair(Thread& thread, const Instruction& instruction) {
  const auto a = Get<uint32_t>(thread, instruction, 1);
  const auto b = Get<uint32_t>(thread, instruction, 2);
  const auto c = Get<uint32_t>(thread, instruction, 3);
  Set<uint32_t>(thread, instruction, 0,
                Bf16Pair(FmaToOdd(Half(a, false), Half(b, false), Half(c, false)),
                         FmaToOdd(Half(a, true), Half(b, true), Half(c, true))));
}

template <typename From, typename To>
void AddBetweenIntegers(Opcodes& opcodes, const std::string& from, const std::string& to) {
  opcodes.Add("cvt." + to + "." + from, &RunPlain<To, From>);
}
template <typename From>
void AddFromInteger(Opcodes& opcodes, const std::string& from) {
  AddBetweenIntegers<From, int8_t>(opcodes, from, "s8");
  AddBetweenIntegers<From, uint8_t>(opcodes, from, "u8");
  AddBetweenIntegers<From, int16_t>(opcodes, from, "s16");
  AddBetweenIntegers<From, uint16_t>(opcodes, from, "u16");
  AddBetweenIntegers<From, int32_t>(opcodes, from, "s32");
  AddBetweenIntegers<From, uint32_t>(opcodes, from, "u32");
  AddBetweenIntegers<From, int64_t>(opcodes, from, "s64");
  AddBetweenIntegers<From, uint64_t>(opcodes, from, "u64");
  opcodes.Add("cvt.rn.f32." + from, &RunPlain<float, From>);
  opcodes.Add("cvt.rn.f64." + from, &RunPlain<double, From>);
}
template <typename From, typename To>
void AddToInteger(Opcodes& opcodes, const std::string& from, const std::string& to) {
  opcodes.Add("cvt.rni." + to + "." + from, &RunToInteger<To, From, &ToNearest<From>>);
  opcodes.Add("cvt.rzi." + to + "." + from, &RunToInteger<To, From, &TowardsZero<From>>);
  opcodes.Add("cvt.rmi." + to + "." + from, &RunToInteger<To, From, &Down<From>>);
  opcodes.Add("cvt.rpi." + to + "." + from, &RunToInteger<To, From, &Up<From>>);
}
template <typename T>
void AddFromFloat(Opcodes& opcodes, const std::string& type) {
  AddToInteger<T, int32_t>(opcodes, type, "s32");
  AddToInteger<T, uint32_t>(opcodes, type, "u32");
  AddToInteger<T, int64_t>(opcodes, type, "s64");
  AddToInteger<T, uint64_t>(opcodes, type, "u64");
  opcodes.Add("cvt.rni." + type + "." + type, &RunToWhole<T, &ToNearest<T>>);
  opcodes.Add("cvt.rzi." + type + "." + type, &RunToWhole<T, &TowardsZero<T>>);
  opcodes.Add("cvt.rmi." + type + "." + type, &RunToWhole<T, &Down<T>>);
  opcodes.Add("cvt.rpi." + type + "." + type, &RunToWhole<T, &Up<T>>);
}

}  // namespace

void AddConversions(Opcodes& opcodes) {
  AddFromInteger<int8_t>(opcodes, "s8");
  AddFromInteger<uint8_t>(opcodes, "u8");
  AddFromInteger<int16_t>(opcodes, "s16");
  AddFromInteger<uint16_t>(opcodes, "u16");
  AddFromInteger<int32_t>(opcodes, "s32");
  AddFromInteger<uint32_t>(opcodes, "u32");
  AddFromInteger<int64_t>(opcodes, "s64");
  AddFromInteger<uint64_t>(opcodes, "u64");
  AddFromFloat<float>(opcodes, "f32");
  AddFromFloat<double>(opcodes, "f64");
  opcodes.Add("cvt.f64.f32", &RunPlain<double, float>);
  opcodes.Add("cvt.rn.f32.f64", &RunPlain<float, double>);
  opcodes.Add("cvt.rn.bf16.f32", &RunToBf16);
  opcodes.Add("cvt.rn.bf16x2.f32", &RunToBf16Pair);
  opcodes.Add("fma.rn.bf16x2", &RunFmaBf16Pair);
  // All of memory but the block's own is one range of addresses here.
  opcodes.Add("cvta.to.global.u64", &RunPlain<uint64_t, uint64_t>);
  opcodes.Add("cvta.global.u64", &RunPlain<uint64_t, uint64_t>);
}

}  // namespace baton::ptx
