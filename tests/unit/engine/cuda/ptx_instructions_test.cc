// Instructions of a thread of its own, by the values that the PTX ISA says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "tests/unit/engine/cuda/ptx_harness.h"

namespace baton::ptx {
namespace {

// Of a statement that writes `target`, all of its bits.
uint64_t Result(const std::string& statement, const std::string& target) {
  std::string store = "st.global.u64 [%rd0], " + target + ";";
  if (target.starts_with("%p")) {
    store = "selp.u64 %rd9, 1, 0, " + target + "; st.global.u64 [%rd0], %rd9;";
  } else if (target.starts_with("%fd")) {
    store = "st.global.f64 [%rd0], " + target + ";";
  } else if (target.starts_with("%f")) {
    store = "st.global.f32 [%rd0], " + target + ";";
  } else if (target.starts_with("%rs")) {
    store = "st.global.u16 [%rd0], " + target + ";";
  } else if (!target.starts_with("%rd")) {
    store = "st.global.u32 [%rd0], " + target + ";";
  }
  const std::vector<uint32_t> memory = RunPtx(statement + store, {0, 0});
  return memory[0] | uint64_t{memory[1]} << 32;
}
uint32_t Bits(float value) { return std::bit_cast<uint32_t>(value); }
uint64_t Bits(double value) { return std::bit_cast<uint64_t>(value); }
std::string Text(float value) {
  char text[16];
  std::snprintf(text, sizeof(text), "0f%08X", Bits(value));
  return text;
}
std::string Text(double value) {
  char text[24];
  std::snprintf(text, sizeof(text), "0d%016llX", static_cast<unsigned long long>(Bits(value)));
  return text;
}
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(PtxInstructionsTest, IntegersWrapAroundAndDivideTowardsZero) {
  EXPECT_EQ(Result("add.s32 %r1, 2147483647, 1;", "%r1"), 0x80000000u);
  EXPECT_EQ(Result("sub.s32 %r1, 3, 5;", "%r1"), 0xfffffffeu);
  EXPECT_EQ(Result("add.s64 %rd1, -1, -1;", "%rd1"), 0xfffffffffffffffeu);
  EXPECT_EQ(Result("mul.lo.s32 %r1, 65537, 65537;", "%r1"), 0x20001u);
  EXPECT_EQ(Result("mul.hi.u32 %r1, -1, -1;", "%r1"), 0xfffffffeu);
  EXPECT_EQ(Result("mul.hi.s32 %r1, -1, 2;", "%r1"), 0xffffffffu);
  EXPECT_EQ(Result("mul.hi.u64 %rd1, -1, 16;", "%rd1"), 15u);
  EXPECT_EQ(Result("mul.wide.s32 %rd1, -2, 3;", "%rd1"), 0xfffffffffffffffau);
  EXPECT_EQ(Result("mul.wide.u32 %rd1, -2, 3;", "%rd1"), 0x2fffffffau);
  EXPECT_EQ(Result("mul.wide.u16 %r1, -1, -1;", "%r1"), 0xfffe0001u);
  EXPECT_EQ(Result("mad.lo.s32 %r1, 5, -6, 7;", "%r1"), 0xffffffe9u);
  EXPECT_EQ(Result("mad.wide.u32 %rd1, -1, 2, 3;", "%rd1"), 0x200000001u);
  EXPECT_EQ(Result("mad.wide.s32 %rd1, -1, 2, 3;", "%rd1"), 1u);
  EXPECT_EQ(Result("div.s32 %r1, -7, 2;", "%r1"), 0xfffffffdu);
  EXPECT_EQ(Result("div.u32 %r1, -7, 2;", "%r1"), 0x7ffffffcu);
  EXPECT_EQ(Result("rem.s32 %r1, -7, 2;", "%r1"), 0xffffffffu);
  EXPECT_EQ(Result("div.s32 %r1, 0x80000000, -1;", "%r1"), 0x80000000u);
  EXPECT_EQ(Result("min.s32 %r1, -1, 1;", "%r1"), 0xffffffffu);
  EXPECT_EQ(Result("min.u32 %r1, -1, 1;", "%r1"), 1u);
  EXPECT_EQ(Result("max.s64 %rd1, -1, 1;", "%rd1"), 1u);
  EXPECT_EQ(Result("neg.s32 %r1, 5;", "%r1"), 0xfffffffbu);
  EXPECT_EQ(Result("abs.s32 %r1, -5;", "%r1"), 5u);
}

TEST(PtxInstructionsTest, FloatsAreRoundedOnceAndKeepSubnormalNumbers) {
  const std::string tiny = Text(std::numeric_limits<float>::denorm_min());
  EXPECT_EQ(Result("add.f32 %f1, " + tiny + ", " + tiny + ";", "%f1"), 2u);
  // 1 + 2^-12 squared is 1 + 2^-11 + 2^-24: what the last one leaves shows whether it was rounded.
  const std::string x = Text(1.0f + 0x1p-12f);
  const std::string y = Text(-(1.0f + 0x1p-11f));
  EXPECT_EQ(Result("fma.rn.f32 %f1, " + x + ", " + x + ", " + y + ";", "%f1"), Bits(0x1p-24f));
  EXPECT_EQ(Result("mul.rn.f32 %f1, " + x + ", " + x + "; add.f32 %f1, %f1, " + y + ";", "%f1"),
            0u);
  EXPECT_EQ(
      Result("fma.rn.f64 %fd1, " + Text(3.0) + ", " + Text(0.5) + ", " + Text(1.0) + ";", "%fd1"),
      Bits(2.5));
  EXPECT_EQ(Result("neg.f32 %f1, " + Text(0.0f) + ";", "%f1"), Bits(-0.0f));
  EXPECT_EQ(Result("abs.f32 %f1, " + Text(-2.0f) + ";", "%f1"), Bits(2.0f));
  EXPECT_EQ(Result("sqrt.rn.f32 %f1, " + Text(2.0f) + ";", "%f1"), Bits(1.41421356f));
  EXPECT_EQ(Result("rcp.rn.f32 %f1, " + Text(3.0f) + ";", "%f1"), Bits(1.0f / 3.0f));
  EXPECT_EQ(Result("div.rn.f32 %f1, " + Text(1.0f) + ", " + Text(0.0f) + ";", "%f1"),
            Bits(kInfinity));
}

TEST(PtxInstructionsTest, WhatIsNotANumberHasTheBitsOfADevice) {
  const std::string infinity = Text(kInfinity);
  EXPECT_EQ(Result("sub.f32 %f1, " + infinity + ", " + infinity + ";", "%f1"), 0x7fffffffu);
  EXPECT_EQ(Result("add.f32 %f1, " + Text(kNan) + ", " + infinity + ";", "%f1"), 0x7fffffffu);
  EXPECT_EQ(Result("neg.f32 %f1, " + Text(kNan) + ";", "%f1"), 0xffc00000u);
}

TEST(PtxInstructionsTest, MaximaLeaveOutWhatIsNotANumber) {
  const std::string nan = Text(kNan);
  EXPECT_EQ(Result("max.f32 %f1, " + nan + ", " + Text(-1.0f) + ";", "%f1"), Bits(-1.0f));
  EXPECT_EQ(Result("min.f32 %f1, " + Text(-1.0f) + ", " + nan + ";", "%f1"), Bits(-1.0f));
  EXPECT_EQ(Result("max.f32 %f1, " + Text(-0.0f) + ", " + Text(0.0f) + ";", "%f1"), Bits(0.0f));
  EXPECT_EQ(Result("min.f32 %f1, " + Text(0.0f) + ", " + Text(-0.0f) + ";", "%f1"), Bits(-0.0f));
}

TEST(PtxInstructionsTest, ApproximationsFollowTheirSpecialCases) {
  EXPECT_EQ(Result("ex2.approx.f32 %f1, " + Text(3.0f) + ";", "%f1"), Bits(8.0f));
  EXPECT_EQ(Result("ex2.approx.f32 %f1, " + Text(-140.0f) + ";", "%f1"), Bits(0x1p-140f));
  EXPECT_EQ(Result("ex2.approx.ftz.f32 %f1, " + Text(-140.0f) + ";", "%f1"), 0u);
  EXPECT_EQ(Result("ex2.approx.ftz.f32 %f1, " + Text(-kInfinity) + ";", "%f1"), 0u);
  EXPECT_EQ(Result("lg2.approx.f32 %f1, " + Text(0.0f) + ";", "%f1"), Bits(-kInfinity));
  EXPECT_EQ(Result("div.approx.f32 %f1, " + Text(6.0f) + ", " + Text(2.0f) + ";", "%f1"),
            Bits(3.0f));
  // A divisor above 2^126 gives 0, whatever the quotient is.
  EXPECT_EQ(Result("div.approx.f32 %f1, " + Text(0x1p127f) + ", " + Text(0x1p127f) + ";", "%f1"),
            0u);
  EXPECT_EQ(Result("rcp.approx.ftz.f64 %fd1, " + Text(3.0) + ";", "%fd1"),
            Bits(1.0 / 3.0) & 0xffffffff00000000u);
}

TEST(PtxInstructionsTest, BitsAreShiftedOutAndPutTogether) {
  EXPECT_EQ(Result("shl.b32 %r1, 1, 31;", "%r1"), 0x80000000u);
  EXPECT_EQ(Result("shl.b32 %r1, 1, 32;", "%r1"), 0u);
  EXPECT_EQ(Result("shr.u32 %r1, -1, 28;", "%r1"), 15u);
  EXPECT_EQ(Result("shr.s32 %r1, -16, 2;", "%r1"), 0xfffffffcu);
  EXPECT_EQ(Result("shr.s32 %r1, -16, 40;", "%r1"), 0xffffffffu);
  EXPECT_EQ(Result("shr.u64 %rd1, -1, 60;", "%rd1"), 15u);
  EXPECT_EQ(Result("and.b32 %r1, 12, 10; xor.b32 %r1, %r1, 1;", "%r1"), 9u);
  EXPECT_EQ(Result("not.b32 %r1, 0;", "%r1"), 0xffffffffu);
  EXPECT_EQ(Result("popc.b32 %r1, 0xf0f0;", "%r1"), 8u);
  EXPECT_EQ(Result("clz.b32 %r1, 0x00010000;", "%r1"), 15u);
  EXPECT_EQ(Result("clz.b32 %r1, 0;", "%r1"), 32u);
  EXPECT_EQ(Result("brev.b32 %r1, 6;", "%r1"), 0x60000000u);
  EXPECT_EQ(Result("bfind.shiftamt.u32 %r1, 0x00800000;", "%r1"), 8u);
  EXPECT_EQ(Result("bfind.shiftamt.u32 %r1, 0;", "%r1"), 0xffffffffu);
  EXPECT_EQ(Result("bfi.b64 %rd1, 5, 7, 32, 32;", "%rd1"), 0x500000007u);
  EXPECT_EQ(Result("bfi.b32 %r1, 0, -1, 4, 8;", "%r1"), 0xfffff00fu);
  EXPECT_EQ(Result("prmt.b32 %r1, 0x44332211, 0x88776655, 0x7531;", "%r1"), 0x88664422u);
  EXPECT_EQ(Result("prmt.b32 %r1, 0x00008000, 0, 0x9880;", "%r1"), 0xff000000u);
  EXPECT_EQ(Result("mov.u16 %rs1, 1; mov.u16 %rs2, 2; mov.b32 %r1, {%rs1, %rs2};", "%r1"),
            0x20001u);
  EXPECT_EQ(Result("mov.u64 %rd1, 0x200000001; mov.b64 {%r1,%r2}, %rd1;", "%r2"), 2u);
  EXPECT_EQ(Result("mov.u32 %r1, 3; mov.u32 %r2, 4; mov.b64 %rd1, {%r1,%r2};", "%rd1"),
            0x400000003u);
}

TEST(PtxInstructionsTest, ComparisonsSayWhatBecomesOfNans) {
  const std::string nan = Text(kNan);
  const std::string one = Text(1.0f);
  EXPECT_EQ(Result("setp.lt.s32 %p1, -1, 1;", "%p1"), 1u);
  EXPECT_EQ(Result("setp.lt.u32 %p1, -1, 1;", "%p1"), 0u);
  EXPECT_EQ(Result("setp.eq.s16 %p1, 65535, -1;", "%p1"), 1u);
  EXPECT_EQ(Result("setp.lt.f32 %p1, " + one + ", " + nan + ";", "%p1"), 0u);
  EXPECT_EQ(Result("setp.ltu.f32 %p1, " + one + ", " + nan + ";", "%p1"), 1u);
  EXPECT_EQ(Result("setp.ne.f32 %p1, " + nan + ", " + nan + ";", "%p1"), 0u);
  EXPECT_EQ(Result("setp.neu.f32 %p1, " + nan + ", " + nan + ";", "%p1"), 1u);
  EXPECT_EQ(Result("setp.geu.f32 %p1, " + one + ", " + Text(2.0f) + ";", "%p1"), 0u);
  EXPECT_EQ(Result("setp.nan.f32 %p1, " + one + ", " + nan + ";", "%p1"), 1u);
  EXPECT_EQ(Result("setp.num.f32 %p1, " + one + ", " + nan + ";", "%p1"), 0u);
}

TEST(PtxInstructionsTest, ConversionsRoundAndSaturate) {
  EXPECT_EQ(Result("cvt.rzi.s32.f32 %r1, " + Text(-2.7f) + ";", "%r1"), 0xfffffffeu);
  EXPECT_EQ(Result("cvt.rni.s32.f32 %r1, " + Text(2.5f) + ";", "%r1"), 2u);
  EXPECT_EQ(Result("cvt.rzi.s32.f32 %r1, " + Text(1e20f) + ";", "%r1"), 0x7fffffffu);
  EXPECT_EQ(Result("cvt.rzi.s32.f32 %r1, " + Text(-1e20f) + ";", "%r1"), 0x80000000u);
  EXPECT_EQ(Result("cvt.rzi.u32.f32 %r1, " + Text(-1.0f) + ";", "%r1"), 0u);
  EXPECT_EQ(Result("cvt.rzi.s32.f32 %r1, " + Text(kNan) + ";", "%r1"), 0u);
  EXPECT_EQ(Result("cvt.rzi.s32.f64 %r1, 0d7FF8000000000000;", "%r1"), 0x80000000u);
  EXPECT_EQ(Result("cvt.rzi.s64.f32 %rd1, " + Text(kNan) + ";", "%rd1"), 0x8000000000000000u);
  EXPECT_EQ(Result("cvt.rmi.f32.f32 %f1, " + Text(-1.5f) + ";", "%f1"), Bits(-2.0f));
  EXPECT_EQ(Result("cvt.rn.f32.s32 %f1, 16777217;", "%f1"), Bits(16777216.0f));
  EXPECT_EQ(Result("cvt.rn.f32.f64 %f1, " + Text(1.0 + 0x1p-25) + ";", "%f1"), Bits(1.0f));
  EXPECT_EQ(Result("cvt.s64.s32 %rd1, -3;", "%rd1"), 0xfffffffffffffffdu);
  EXPECT_EQ(Result("cvt.u64.u32 %rd1, -3;", "%rd1"), 0xfffffffdu);
  EXPECT_EQ(Result("cvt.s32.s8 %r1, 0x180;", "%r1"), 0xffffff80u);
  EXPECT_EQ(Result("cvt.u32.u16 %r1, -1;", "%r1"), 0xffffu);
}

TEST(PtxInstructionsTest, Bf16IsRoundedToEvenAndPairsHaveTheFirstAbove) {
  EXPECT_EQ(Result("cvt.rn.bf16.f32 %rs1, " + Text(1.0f + 0x1p-8f) + ";", "%rs1"), 0x3f80u);
  EXPECT_EQ(Result("cvt.rn.bf16.f32 %rs1, " + Text(1.0f + 0x3p-8f) + ";", "%rs1"), 0x3f82u);
  EXPECT_EQ(Result("cvt.rn.bf16.f32 %rs1, " + Text(-kNan) + ";", "%rs1"), 0x7fffu);
  EXPECT_EQ(Result("cvt.rn.bf16x2.f32 %r1, " + Text(2.0f) + ", " + Text(1.0f) + ";", "%r1"),
            0x40003f80u);
  // 1 * (1 + 2^-7) + 2^-8 is half way, and goes to the even one above; 3 * 5 + 1 below it.
  EXPECT_EQ(Result("fma.rn.bf16x2 %r1, 0x3f804040, 0x3f8140a0, 0x3b803f80;", "%r1"), 0x3f824180u);
  // A product that is half way, and a sum that is too small for float to keep.
  EXPECT_EQ(Result("fma.rn.bf16x2 %r1, 0x3f81, 0x3fc0, 0x00010001;", "%r1"), 0x00013fc2u);
}

}  // namespace
}  // namespace baton::ptx
