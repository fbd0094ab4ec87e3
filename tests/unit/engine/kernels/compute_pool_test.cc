#include "engine/kernels/compute_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <cmath>
#include <vector>

#include "engine/kernels/bf16.h"
#include "engine/kernels/isa.h"

namespace baton {
namespace {

// Both ways of running tasks, in turns.
void RunEitherWay(ComputePool* pool, int64_t round, int32_t num_tasks, ComputePool::TaskFn fn) {
  if (round % 2 == 0) {
    pool->Run(num_tasks, fn);
  } else {
    pool->RunInShares(num_tasks, fn);
  }
}

TEST(ComputePoolTest, RunsEveryTaskOnceForAnyNumberOfThreads) {
  for (const int32_t threads : {1, 2, 5}) {
    auto pool = *ComputePool::Create(threads, {});
    for (int32_t round = 0; round < 600; ++round) {
      const int32_t tasks = round % 23;
      std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
      std::atomic<bool> thread_in_range = true;
      RunEitherWay(pool.get(), round, tasks, [&](int32_t task, int32_t thread) {
        runs[static_cast<size_t>(task)].fetch_add(1);
        if (thread < 0 || thread >= threads) thread_in_range = false;
      });
      for (const auto& count : runs) ASSERT_EQ(count.load(), 1) << threads << " " << round;
      ASSERT_TRUE(thread_in_range);
    }
  }
}

TEST(ComputePoolTest, WhatTasksWroteIsVisibleAfterRun) {
  auto pool = *ComputePool::Create(3, {});
  std::vector<int64_t> values(64, 0);  // plain: the pool must order the accesses
  for (int64_t round = 1; round <= 500; ++round) {
    RunEitherWay(pool.get(), round, 64,
                 [&](int32_t task, int32_t) { values[static_cast<size_t>(task)] += round; });
    ASSERT_EQ(values[static_cast<size_t>(round % 64)], round * (round + 1) / 2);
  }
}

TEST(ComputePoolTest, WhatAThreadLeavesOfItsShareTheOtherTakes) {
  auto pool = *ComputePool::Create(2, {});
  // Task 0 ends after all others, so whoever runs it runs nothing else of that share.
  std::vector<int32_t> thread_of(10, -1);
  std::atomic<int32_t> others = 0;
  pool->RunInShares(10, [&](int32_t task, int32_t thread) {
    thread_of[static_cast<size_t>(task)] = thread;
    if (task != 0) {
      others.fetch_add(1);
      return;
    }
    while (others.load() < 9) {
    }
  });
  for (size_t task = 1; task < 5; ++task) EXPECT_EQ(thread_of[task], 1 - thread_of[0]) << task;
}

TEST(ComputePoolTest, ScratchIsPerThreadAndGrows) {
  auto pool = *ComputePool::Create(3, {});
  pool->ReserveScratch(100);
  std::byte* small = pool->Scratch(1);
  pool->ReserveScratch(50);
  EXPECT_EQ(pool->Scratch(1), small);
  EXPECT_NE(pool->Scratch(0), pool->Scratch(1));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(small) % 64, 0u);
  pool->ReserveScratch(5 << 20);
  pool->Run(3,
            [&](int32_t, int32_t thread) { pool->Scratch(thread)[(5 << 20) - 1] = std::byte{1}; });
}

TEST(ComputePoolTest, RefusesImpossibleThreadsAndPins) {
  EXPECT_EQ(ComputePool::Create(0, {}).status().code(), absl::StatusCode::kInvalidArgument);
  const std::vector<int32_t> one = {0};
  EXPECT_EQ(ComputePool::Create(2, one).status().code(), absl::StatusCode::kInvalidArgument);
  const std::vector<int32_t> absent = {0, 1000000};
  EXPECT_EQ(ComputePool::Create(2, absent).status().code(), absl::StatusCode::kInvalidArgument);
  const std::vector<int32_t> negative = {-1};
  EXPECT_EQ((*ComputePool::Create(1, negative))->PinCaller().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ComputePoolTest, PinsTheCallerToItsCpu) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  int32_t cpu = 0;
  while (!CPU_ISSET(cpu, &before)) ++cpu;
  const std::vector<int32_t> pin = {cpu};
  auto pool = *ComputePool::Create(1, pin);
  ASSERT_TRUE(pool->PinCaller().ok());
  cpu_set_t after;
  ASSERT_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
  EXPECT_EQ(CPU_COUNT(&after), 1);
  EXPECT_TRUE(CPU_ISSET(cpu, &after));
  sched_setaffinity(0, sizeof(before), &before);
}

TEST(IsaTest, NamesAreAcceptedUpToWhatTheCpuHas) {
  const Isa best = *BestIsa();
  EXPECT_EQ(*SelectIsa(""), best);
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16}) {
    const auto selected = SelectIsa(IsaName(isa));
    if (isa <= best) {
      EXPECT_EQ(*selected, isa);
    } else {
      EXPECT_EQ(selected.status().code(), absl::StatusCode::kFailedPrecondition);
    }
  }
  const absl::Status unknown = SelectIsa("sse9").status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(unknown.message().find("avx512-bf16"), absl::string_view::npos) << unknown;
}

TEST(Bf16Test, RoundsToNearestEvenAndKeepsSpecialValues) {
  EXPECT_EQ(ToBf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(ToBf16(1.0f + 0x1p-8f).bits, 0x3f80);            // tie, to even
  EXPECT_EQ(ToBf16(1.0f + 0x1p-7f + 0x1p-8f).bits, 0x3f82);  // tie, to even
  EXPECT_EQ(ToBf16(1.0f + 0x1p-8f + 0x1p-20f).bits, 0x3f81);
  EXPECT_EQ(ToBf16(-INFINITY).bits, 0xff80);
  EXPECT_TRUE(std::isnan(ToFloat(ToBf16(NAN))));
  EXPECT_TRUE(std::isnan(ToFloat(ToBf16(__builtin_bit_cast(float, 0x7f800001u)))));
}

TEST(HalfTest, ConvertsEveryValueExactly) {
  EXPECT_EQ(HalfToFloat(0x3c00), 1.0f);
  EXPECT_EQ(HalfToFloat(0xc000), -2.0f);
  EXPECT_EQ(HalfToFloat(0x7bff), 65504.0f);
  EXPECT_EQ(HalfToFloat(0x0001), 0x1p-24f);
  EXPECT_EQ(HalfToFloat(0x83ff), -0x3ffp-24f);
  EXPECT_EQ(HalfToFloat(0x0400), 0x1p-14f);
  EXPECT_TRUE(std::signbit(HalfToFloat(0x8000)));
  EXPECT_EQ(HalfToFloat(0xfc00), -INFINITY);
  EXPECT_TRUE(std::isnan(HalfToFloat(0x7e01)));
}

}  // namespace
}  // namespace baton
