// What the interpreter of PTX does with memory, lanes and products, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <string>
#include <vector>

#include "tests/support/ptx/substitution.h"
#include "tests/unit/engine/cuda/ptx_harness.h"

namespace baton::ptx {
namespace {

using testing::Each;
using testing::ElementsAre;

// Its own word of memory is in [%rd1].
const std::string kOwnWord =
    "mov.u32 %r90, %tid.x; mul.wide.u32 %rd1, %r90, 4; add.s64 %rd1, %rd0, %rd1;";

TEST(PtxInterpreterTest, BranchesGuardsAndScopesLeadThroughAKernel) {
  EXPECT_THAT(RunPtx(R"(
      mov.u32 %r1, 0;
      mov.u32 %r2, 0;
$L_next:
      .pragma "nounroll";
      add.s32 %r2, %r2, %r1;
      add.s32 %r1, %r1, 1;
      setp.lt.s32 %p1, %r1, 5;
      @%p1 bra $L_next;
      {
      .reg .pred %p1;  // hides the other one
      .reg .b32 inner;
      setp.eq.s32 %p1, 1, 1;
      mov.u32 inner, 7;
      @%p1 add.s32 %r2, %r2, inner;
      @!%p1 mov.u32 %r2, 0;
      }
      @!%p1 st.global.u32 [%rd0+4], %r2;
      bra.uni $L_end;
      st.global.u32 [%rd0], %r2;
$L_end:)",
                     {1, 2}),
              ElementsAre(1, 17));
}

TEST(PtxInterpreterTest, LoadsFillWiderRegistersAndVectors) {
  EXPECT_THAT(RunPtx(R"(
      ld.global.v2.u32 {%r1, %r2}, [%rd0];
      st.global.v2.u32 [%rd0+8], {%r2, %r1};
      ld.global.s8 %rd2, [%rd0+3];
      st.global.u64 [%rd0+16], %rd2;
      mov.u64 %rd3, table;
      ld.global.nc.u32 %r3, [%rd3+4];
      st.global.u32 [%rd0], %r3;)",
                     {0x80000001, 2, 0, 0, 0, 0}),
              ElementsAre(0x08070605, 2, 2, 0x80000001, 0xffffff80, 0xffffffff));
}

TEST(PtxInterpreterTest, SharedAndLocalMemoryIsPoisonUntilItIsWritten) {
  EXPECT_THAT(RunPtx(R"(
      ld.shared.u32 %r1, [held+60];
      st.global.u32 [%rd0], %r1;
      mov.u32 %r2, dynamic;
      ld.shared.u32 %r1, [%r2+12];
      st.global.u32 [%rd0+4], %r1;
      mov.u64 %rd2, depot;
      ld.local.u32 %r1, [%rd2+12];
      st.global.u32 [%rd0+8], %r1;
      st.local.u32 [%rd2+12], 5;
      ld.local.u32 %r1, [%rd2+12];
      st.global.u32 [%rd0+12], %r1;
      st.shared.u32 [held+60], 6;
      st.shared.u32 [%r2+12], 7;)",
                     {0, 0, 0, 0}, {.shared_bytes = 16, .blocks = 2}),
              ElementsAre(0xffffffff, 0xffffffff, 0xffffffff, 5));
}

TEST(PtxInterpreterTest, ThreadsSeeOneAnotherBehindABarrier) {
  const auto memory = RunPtx(kOwnWord + R"(
      mov.u32 %r1, dynamic;
      shl.b32 %r2, %r90, 2;
      add.s32 %r3, %r1, %r2;
      st.shared.u32 [%r3], %r90;
      atom.shared.add.u32 %r9, [held], 2;
      bar.sync 0;
      xor.b32 %r2, %r2, 4;
      add.s32 %r3, %r1, %r2;
      ld.shared.u32 %r4, [%r3];
      st.global.u32 [%rd1], %r4;
      setp.lt.u32 %p1, %r90, 3;
      bar.red.popc.u32 %r5, 0, %p1;
      bar.red.or.pred %p2, 0, %p1;
      setp.eq.s32 %p3, %r90, 5;
      selp.b32 %r5, %r5, 100, %p2;
      @%p3 st.global.u32 [%rd1], %r5;
      setp.eq.s32 %p3, %r90, 6;
      ld.shared.u32 %r6, [held];
      @%p3 st.global.u32 [%rd1], %r6;)",
                             std::vector<uint32_t>(8), {.threads = 8, .shared_bytes = 32});
  EXPECT_THAT(memory, ElementsAre(1, 0, 3, 2, 5, 3, 15, 6));
}

// Of lanes 0 to 7, each with ten times its number.
std::vector<uint32_t> Shuffled(const std::string& shuffle) {
  return RunPtx(kOwnWord + "mul.lo.s32 %r1, %r90, 10;" + shuffle + R"(
      selp.b32 %r3, %r2, 99, %p1;
      st.global.u32 [%rd1], %r3;)",
                std::vector<uint32_t>(8), {.threads = 8});
}
TEST(PtxInterpreterTest, ShufflesStayInTheirSegments) {
  EXPECT_THAT(Shuffled("shfl.sync.bfly.b32 %r2|%p1, %r1, 2, 31, 255;"),
              ElementsAre(20, 30, 0, 10, 60, 70, 40, 50));
  EXPECT_THAT(Shuffled("shfl.sync.up.b32 %r2|%p1, %r1, 1, 0, 255;"),
              ElementsAre(99, 0, 10, 20, 30, 40, 50, 60));
  // In segments of four: 0x1c in bits 8 to 12.
  EXPECT_THAT(Shuffled("shfl.sync.down.b32 %r2|%p1, %r1, 1, 0x1c1f, 255;"),
              ElementsAre(10, 20, 30, 99, 50, 60, 70, 99));
  EXPECT_THAT(Shuffled("shfl.sync.idx.b32 %r2|%p1, %r1, 1, 0x1c1f, 255;"),
              ElementsAre(10, 10, 10, 10, 50, 50, 50, 50));
  EXPECT_THAT(Shuffled("setp.lt.u32 %p2, %r90, 3; vote.sync.ballot.b32 %r2, %p2, 255;"
                       "vote.sync.any.pred %p1, %p2, 255;"),
              Each(7));
}

TEST(PtxInterpreterTest, AtomicOperationsGiveWhatWasThere) {
  EXPECT_THAT(RunPtx(R"(
      atom.global.exch.b32 %r1, [%rd0], 9;
      atom.global.min.s32 %r2, [%rd0+4], -2;
      red.global.max.u32 [%rd0+8], -2;
      atom.global.cas.b32 %r3, [%rd0+12], 4, 8;
      st.global.v2.u32 [%rd0+16], {%r1, %r2};
      st.global.u32 [%rd0+24], %r3;)",
                     {1, 2, 3, 4, 0, 0, 0}),
              ElementsAre(9, 0xfffffffe, 0xfffffffe, 8, 1, 2, 4));
}

TEST(PtxInterpreterTest, CopiesArriveAtTheirWait) {
  EXPECT_THAT(RunPtx(R"(
      mov.u32 %r1, dynamic;
      cp.async.cg.shared.global [%r1], [%rd0], 16, 16;
      cp.async.cg.shared.global [%r1+16], [%rd0], 16, 0;
      cp.async.commit_group;
      cp.async.wait_group 0;
      ld.shared.u32 %r2, [%r1+4];
      ld.shared.u32 %r3, [%r1+20];
      st.global.v2.u32 [%rd0+8], {%r2, %r3};)",
                     {1, 2, 3, 4}, {.shared_bytes = 32}),
              ElementsAre(1, 2, 2, 0));
}

// One product of a warpgroup with zeros, of 64 columns: "{%f0, ...}, {%r80, ...}".
std::string Product() {
  std::string sums;
  for (int i = 0; i < 32; ++i) sums += (i == 0 ? "%f" : ", %f") + std::to_string(i);
  return "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" + sums +
         "}, {%r80, %r81, %r82, %r83}, %rd5, %p1, 1, 1, 0;";
}
// Shared memory is made zeros, the sums are 2.5.
std::string ProductKernel(const std::string& body) {
  std::string text =
      kOwnWord + "mov.u32 %r1, dynamic; shl.b32 %r2, %r90, 6; add.s32 %r1, %r1, %r2;";
  for (int i = 0; i < 64; i += 4) text += "st.shared.u32 [%r1+" + std::to_string(i) + "], 0;";
  for (int i = 0; i < 32; ++i) text += "mov.f32 %f" + std::to_string(i) + ", 0f40200000;";
  for (int i = 80; i < 84; ++i) text += "mov.u32 %r" + std::to_string(i) + ", 0x3f803f80;";
  // Shared memory's first 1024 bytes are the system's; stride 1024, 128-byte swizzle.
  text += "mov.u64 %rd5, 0x4000004000000040; setp.eq.s32 %p1, 0, 0; bar.sync 0;";
  return text + body;
}
const PtxLaunch kWarpgroup{.threads = 128, .shared_bytes = 8192};

TEST(PtxInterpreterTest, SumsOfAProductComeWithItsWait) {
  const auto memory = RunPtx(ProductKernel("wgmma.fence.sync.aligned;" + Product() + R"(
      wgmma.commit_group.sync.aligned;
      mov.f32 %f40, %f0;
      wgmma.wait_group.sync.aligned 0;
      abs.f32 %f40, %f40;
      setp.nan.f32 %p2, %f40, %f40;
      selp.f32 %f41, %f0, 0f00000000, %p2;
      st.global.f32 [%rd1], %f41;)"),
                             std::vector<uint32_t>(128), kWarpgroup);
  EXPECT_THAT(memory, Each(std::bit_cast<uint32_t>(2.5f)));
}

using PtxDeathTest = testing::Test;

TEST(PtxDeathTest, ProductsWhoseRegistersAreTouchedAreRefused) {
  const std::vector<uint32_t> memory(128);
  EXPECT_DEATH(RunPtx(ProductKernel(Product()), memory, kWarpgroup),
               "a product without a fence before it");
  const std::string started =
      "wgmma.fence.sync.aligned;" + Product() + "wgmma.commit_group.sync.aligned;";
  const std::string wait = "wgmma.wait_group.sync.aligned 0;";
  for (const char* change : {"mov.u32 %r81, 0;", "mov.f32 %f3, 0f00000000;"}) {
    EXPECT_DEATH(
        RunPtx(ProductKernel("wgmma.fence.sync.aligned;" + std::string(change) + Product()), memory,
               kWarpgroup),
        "changed behind the fence");
  }
  EXPECT_DEATH(
      RunPtx(ProductKernel(started + "mov.f32 %f3, 0f00000000;" + wait), memory, kWarpgroup),
      "sums were changed before it was waited for");
  EXPECT_DEATH(RunPtx(ProductKernel(started + "mov.u32 %r81, 0;" + wait), memory, kWarpgroup),
               "first matrix of a product was changed");
  EXPECT_DEATH(RunPtx(ProductKernel(started), memory, kWarpgroup), "ended before its products");
}

TEST(PtxDeathTest, AccessesBeyondMemoryAreRefused) {
  EXPECT_DEATH(RunPtx("ld.global.u32 %r1, [%rd0+8];", {0, 0}),
               "beyond global memory in \"ld.global.u32 %r1, \\[%rd0\\+8\\]\"");
  EXPECT_DEATH(RunPtx("ld.global.u8 %r1, [%rd0+-1];", {0, 0}), "beyond global memory");
  EXPECT_DEATH(RunPtx("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd0];", {0, 0}),
               "beyond global memory");
  EXPECT_DEATH(RunPtx("mov.u64 %rd1, table; st.global.u32 [%rd1], 0;", {0}),
               "beyond global memory");
  EXPECT_DEATH(RunPtx("ld.shared.u32 %r1, [held+64];", {0}), "beyond the block's shared memory");
  EXPECT_DEATH(RunPtx("st.shared.u32 [dynamic+16], 0;", {0}, {.shared_bytes = 16}),
               "beyond the block's shared memory");
  EXPECT_DEATH(RunPtx("mov.u64 %rd1, depot; st.local.u64 [%rd1+16], %rd1;", {0}),
               "beyond local memory");
  EXPECT_DEATH(RunPtx("ld.param.u64 %rd1, [test_param_0+8];", {0}), "beyond the kernel's param");
  EXPECT_DEATH(RunPtx("ld.param.u64 %rd1, [test_param_0+-8];", {0}), "beyond the kernel's param");
  EXPECT_DEATH(RunPtx("mov.u64 %rd1, -16; ld.global.u64 %rd2, [%rd1+8];", {0}),
               "beyond global memory");
  EXPECT_DEATH(RunPtx("mov.u64 %rd1, held; add.s64 %rd1, %rd1, 0x100000000;"
                      "ld.shared.u32 %r1, [%rd1];",
                      {0}),
               "no address of shared memory");
}

TEST(PtxDeathTest, BlocksThatADeviceWouldNotStartAreRefused) {
  EXPECT_DEATH(RunPtx("", {0}, {.threads = 129}), "more threads than the kernel was compiled for");
  EXPECT_DEATH(RunPtx("ld.shared.u32 %r1, [held];", {0}, {.shared_bytes = 48 << 10}),
               "more shared memory than a block may have");
}

TEST(PtxDeathTest, AddressesThatAreNotAlignedAreRefused) {
  EXPECT_DEATH(RunPtx("ld.global.u32 %r1, [%rd0+2];", {0, 0}), "not aligned");
  EXPECT_DEATH(RunPtx("ld.global.v2.u32 {%r1, %r2}, [%rd0+4];", {0, 0, 0}), "not aligned");
  EXPECT_DEATH(RunPtx("ld.shared.f64 %fd1, [held+4];", {0}), "not aligned");
  // As far as the variable is declared to be, wherever it lies.
  EXPECT_DEATH(RunPtx("ld.shared.v4.u32 {%r1, %r2, %r3, %r4}, [held];", {0}), "not aligned");
}

TEST(PtxDeathTest, WritesBeforeTheGridInFrontHasBeenWaitedForAreRefused) {
  EXPECT_DEATH(RunPtx("st.global.u32 [%rd0], 0; griddepcontrol.wait;", {0}),
               "a write before the grid in front");
  EXPECT_THAT(
      RunPtx("ld.global.u32 %r1, [%rd0]; griddepcontrol.wait; st.global.u32 [%rd0], 3;", {0}),
      ElementsAre(3));
}

TEST(PtxParserTest, WhatIsNotKnownIsRefused) {
  const auto message_of = [](const std::string& text) -> std::string {
    try {
      Parse(text);
    } catch (const SyntaxError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message_of(KernelText("add.sat.s32 %r1, 1, 2;")),
            "line 20: unknown instruction: add.sat.s32 %r1, 1, 2");
  EXPECT_THAT(message_of(KernelText("bar.sync 0, 64;")),
              testing::HasSubstr("operands of another number"));
  EXPECT_THAT(message_of(KernelText("mov.u32 %r100, 1;")), testing::HasSubstr("unknown name"));
  EXPECT_THAT(message_of(KernelText("bra $L_nowhere;")), testing::HasSubstr("no label: $L_now"));
  EXPECT_THAT(message_of(KernelText("$L_a: $L_a: ret;")), testing::HasSubstr("two labels: $L_a"));
  EXPECT_THAT(message_of(KernelText("mov.u32 %r1, 12x;")), testing::HasSubstr("not a number"));
  EXPECT_THAT(message_of(".version 9.0\n.func f() { ret; }"),
              testing::HasSubstr("not known outside of a kernel"));
  EXPECT_THAT(message_of(".entry test() { ret;"), testing::HasSubstr("without an end"));
}

TEST(PtxNamesTest, AnonymousNamespacesLoseTheirFiles) {
  EXPECT_EQ(WithoutFileNames("_ZN5baton48_GLOBAL__N__91498307_15_sum_gathered_cu_c959b9bb10Sum"
                             "VectorsENS_15SumGatheredArgsE"),
            "_ZN5baton12_GLOBAL__N_110SumVectorsENS_15SumGatheredArgsE");
  EXPECT_EQ(WithoutFileNames("_ZN5baton6KernelEv"), "_ZN5baton6KernelEv");
}

}  // namespace
}  // namespace baton::ptx
