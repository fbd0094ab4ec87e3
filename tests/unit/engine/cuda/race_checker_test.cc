// What the race checker finds in kernels, and that it finds nothing in their mended counterparts.
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>

#include "engine/kernels/cuda/event.h"
#include "engine/kernels/cuda/ptx.h"
#include "engine/kernels/cuda/wgmma.h"
#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {
namespace {

constexpr unsigned kWarp = 32;
// Which thread of a block comes first differs from run to run.
constexpr char kRace[] = "a race: thread";

class RaceCheckerTest : public CudaTest {
 protected:
  struct Shape {
    unsigned threads = 1;
    unsigned blocks = 1;
  };
  void Enqueue(Shape shape, std::function<void()> thread, bool dependent = false) const {
    cudaLaunchAttribute attribute{.id = cudaLaunchAttributeProgrammaticStreamSerialization,
                                  .val = {.programmaticStreamSerializationAllowed = dependent}};
    const cudaLaunchConfig_t config{.gridDim = dim3(shape.blocks),
                                    .blockDim = dim3(shape.threads),
                                    .dynamicSmemBytes = 16 << 10,
                                    .stream = context().stream(),
                                    .attrs = &attribute,
                                    .numAttrs = 1};
    ASSERT_EQ(cuda_emulation::EnqueueKernel(config, nullptr, std::move(thread)), cudaSuccess);
  }
  void Wait() const { ASSERT_TRUE(context().Synchronize().ok()); }
  void Run(Shape shape, std::function<void()> thread) const {
    Enqueue(shape, std::move(thread));
    Wait();
  }
};

unsigned Thread() { return threadIdx.x; }
// Somewhere that the compiler cannot leave out, and that nobody looks at.
struct Sink {
  void operator=(uint32_t value) const { asm volatile("" ::"r"(value)); }
} constexpr sink;

TEST_F(RaceCheckerTest, AReadOfWhatAnotherWarpWroteNeedsABarrier) {
  const auto kernel = [](bool meets) {
    auto* shared = DynamicShared<uint32_t>();
    if (Thread() < kWarp) shared[Thread()] = Thread();
    if (meets) __syncthreads();
    if (Thread() >= kWarp) sink = shared[Thread() - kWarp];
  };
  Run({2 * kWarp}, [&] { kernel(true); });
  EXPECT_DEATH(Run({2 * kWarp}, [&] { kernel(false); }),
               "a race: thread .* (reads from|writes to) bytes .* of dynamic shared memory, "
               "unordered with .*, which (read from|wrote to) them.*now:.*race_checker_test.cc:.*"
               "before:.*race_checker_test.cc:");
}

TEST_F(RaceCheckerTest, AWriteOverWhatAnotherWarpReadNeedsABarrier) {
  const auto kernel = [](bool meets) {
    __shared__ uint32_t shared[kWarp];
    if (Thread() < kWarp) sink = shared[Thread()];
    if (meets) __syncthreads();
    if (Thread() >= kWarp) shared[Thread() - kWarp] = 0;
  };
  Run({2 * kWarp}, [&] { kernel(true); });
  EXPECT_DEATH(Run({2 * kWarp}, [&] { kernel(false); }), "a race: .* of the __shared__ variables");
}

TEST_F(RaceCheckerTest, TwoWritesOfTheSameValueAreARace) {
  const auto kernel = [](unsigned writers) {
    if (Thread() < writers) *DynamicShared<uint32_t>() = 1;
  };
  Run({kWarp}, [&] { kernel(1); });
  EXPECT_DEATH(Run({kWarp}, [&] { kernel(2); }),
               "thread . of .* writes to .*thread ., which wrote");
}

TEST_F(RaceCheckerTest, NeighboursInAWordAreNoRace) {
  const auto kernel = [](unsigned last) {
    auto* bytes = DynamicShared<uint8_t>();
    if (Thread() < last) bytes[Thread()] = 1;
    if (Thread() == 5) sink = *reinterpret_cast<uint32_t*>(bytes + 8);
  };
  Run({kWarp}, [&] { kernel(8); });
  EXPECT_DEATH(Run({kWarp}, [&] { kernel(9); }), kRace);
}

TEST_F(RaceCheckerTest, LanesNeedASyncOfTheirWarp) {
  const auto kernel = [](bool meets) {
    auto* shared = DynamicShared<uint32_t>();
    shared[Thread()] = Thread();
    if (meets) __syncwarp();
    sink = shared[Thread() ^ 1];
  };
  Run({2 * kWarp}, [&] { kernel(true); });
  EXPECT_DEATH(Run({2 * kWarp}, [&] { kernel(false); }), kRace);
}

TEST_F(RaceCheckerTest, ASyncOfLanesOrdersTheNamedOnes) {
  const auto kernel = [](unsigned from) {
    auto* shared = DynamicShared<uint32_t>();
    shared[Thread()] = Thread();
    if (Thread() < 16) {
      __syncwarp(0xffff);
      if (Thread() == 0) sink = shared[from];
    }
  };
  Run({kWarp}, [&] { kernel(15); });
  EXPECT_DEATH(Run({kWarp}, [&] { kernel(16); }), "unordered with thread 16");
}

TEST_F(RaceCheckerTest, SyncsOfLanesAreAChain) {
  const auto kernel = [](bool closed) {
    auto* shared = DynamicShared<uint32_t>();
    if (Thread() == 0) *shared = 7;
    if (Thread() < 2 && closed) __syncwarp(0x3);
    if (Thread() == 1 || Thread() == 2) __syncwarp(0x6);
    if (Thread() == 2) sink = *shared;
  };
  Run({kWarp}, [&] { kernel(true); });
  EXPECT_DEATH(Run({kWarp}, [&] { kernel(false); }), kRace);
}

TEST_F(RaceCheckerTest, SyncsOfWarpsOrderNoOtherWarp) {
  EXPECT_DEATH(Run({2 * kWarp},
                   [] {
                     auto* shared = DynamicShared<uint32_t>();
                     if (Thread() == 0) *shared = 7;
                     __syncwarp();
                     if (Thread() == kWarp) sink = *shared;
                   }),
               kRace);
}

TEST_F(RaceCheckerTest, ShufflesAndVotesOrderNoMemory) {
  const auto write_and_read = [](auto exchange) {
    auto* shared = DynamicShared<uint32_t>();
    if (Thread() == 3) *shared = 7;
    exchange();
    sink = *shared;
  };
  EXPECT_DEATH(Run({kWarp}, [&] { write_and_read([] { __shfl_xor_sync(kFullWarp, 1.0f, 1); }); }),
               kRace);
  EXPECT_DEATH(Run({kWarp}, [&] { write_and_read([] { __any_sync(kFullWarp, 1); }); }), kRace);
}

TEST_F(RaceCheckerTest, AtomicOperationsRaceWithPlainOnesOnly) {
  const auto kernel = [](bool meets) {
    auto* shared = DynamicShared<uint32_t>();
    if (Thread() == 0) *shared = 0;
    __syncthreads();
    atomicAdd(shared, 1u);
    if (meets) __syncthreads();
    if (Thread() == 40) sink = *shared;
  };
  Run({2 * kWarp}, [&] { kernel(true); });
  EXPECT_DEATH(Run({2 * kWarp}, [&] { kernel(false); }), kRace);
  EXPECT_DEATH(Run({2 * kWarp},
                   [&] {
                     auto* shared = DynamicShared<uint32_t>();
                     if (Thread() == 0) *shared = 0;
                     __syncwarp();
                     atomicMax(shared, 1u);
                   }),
               kRace);
}

TEST_F(RaceCheckerTest, BlocksOfALaunchAreNotOrdered) {
  DeviceArray<uint32_t> array = OnDevice<uint32_t>(64);
  uint32_t* numbers = array.data();
  Run({1, 4}, [=] { numbers[blockIdx.x] = 1; });
  Run({1, 4}, [=] { sink = numbers[(blockIdx.x + 1) % 4]; });  // a launch later
  Run({1, 4}, [=] { atomicAdd(numbers, 1u); });
  EXPECT_DEATH(Run({1, 4},
                   [=] {
                     numbers[blockIdx.x] = 1;
                     __syncthreads();
                     sink = numbers[0];
                   }),
               "reads from bytes .* of device memory, unordered with another block");
  EXPECT_DEATH(Run({1, 4},
                   [=] {
                     sink = numbers[5];
                     if (blockIdx.x == 3) numbers[5] = 2;
                   }),
               "writes to .*another block, which read");
  EXPECT_DEATH(Run({1, 2}, [=] { numbers[7] = 2; }), "another block, which wrote");
  EXPECT_DEATH(Run({1, 2},
                   [=] {
                     if (blockIdx.x == 0) {
                       atomicAdd(numbers, 1u);
                     } else {
                       sink = *numbers;
                     }
                   }),
               "another block, which changed atomically");
}

// A launch, and one that may overlap with it: what one of them does, before or behind its wait.
class OverlapTest : public RaceCheckerTest {
 protected:
  using Deed = std::function<void()>;
  static std::function<void()> Early(Deed deed) {
    return [deed = std::move(deed)] {
      deed();
      WaitForPreviousGrid();
    };
  }
  static std::function<void()> Late(Deed deed) {
    return [deed = std::move(deed)] {
      WaitForPreviousGrid();
      deed();
    };
  }
  void RunBoth(Deed first, std::function<void()> second) const {
    Enqueue({1, 2}, std::move(first));
    Enqueue({2, 2}, std::move(second), /*dependent=*/true);
    Wait();
  }
  // Of one thread each.
  static Deed Read(const uint32_t* number) {
    return [=] {
      if (Thread() == 0 && blockIdx.x == 1) sink = *number;
    };
  }
  static Deed Write(uint32_t* number) {
    return [=] {
      if (Thread() == 0 && blockIdx.x == 1) *number = 3;
    };
  }
};

TEST_F(OverlapTest, WhatALaunchDoesBeforeItsWaitIsUnorderedWithTheOneBefore) {
  DeviceArray<uint32_t> array = OnDevice<uint32_t>(8);
  uint32_t* number = array.data() + 5;
  RunBoth(Write(number), Late(Read(number)));
  RunBoth(Read(number), Late(Write(number)));
  RunBoth(Write(number), Late(Write(number)));
  RunBoth(Read(number), Early(Read(number)));
  EXPECT_DEATH(RunBoth(Write(number), Early(Read(number))),
               "a race: thread 0 .* reads from .* unordered with a launch that it has not waited "
               "for, which wrote");
  EXPECT_DEATH(RunBoth(Read(number), Early(Write(number))), "not waited for, which read");
  EXPECT_DEATH(RunBoth(Write(number), Early(Write(number))), "not waited for, which wrote");
}

TEST_F(OverlapTest, AThreadsWaitIsNotThatOfOthers) {
  DeviceArray<uint32_t> array = OnDevice<uint32_t>(8);
  uint32_t* number = array.data();
  const auto second = [=] {
    if (Thread() == 0) WaitForPreviousGrid();
    __syncthreads();
    sink = *number;
    WaitForPreviousGrid();
  };
  EXPECT_DEATH(RunBoth(Write(number), second), "thread 1 .* a launch that it has not waited for");
}

TEST_F(OverlapTest, LaunchesOverlapBackToTheLastThatStartedBehindAll) {
  DeviceArray<uint32_t> array = OnDevice<uint32_t>(8);
  uint32_t* number = array.data();
  const auto run = [&](bool dependent) {
    Enqueue({1, 2}, Write(number));
    Enqueue({1, 4}, Late([=] { sink = *number; }), dependent);
    Enqueue({1, 2}, Early([=] { sink = *number; }), /*dependent=*/true);
    Wait();
  };
  run(false);
  EXPECT_DEATH(run(true), "a launch that it has not waited for, which wrote");
}

TEST_F(OverlapTest, CopiesEndAnOverlapAndEventsDoNot) {
  DeviceArray<uint32_t> array = OnDevice<uint32_t>(8);
  uint32_t* number = array.data();
  const auto run = [&](const std::function<void()>& between) {
    Enqueue({1, 2}, Write(number));
    between();
    Enqueue({1, 2}, Early(Read(number)), /*dependent=*/true);
    Wait();
  };
  run([&] { cudaMemsetAsync(array.data() + 1, 0, 4, context().stream()); });
  run([&] { Wait(); });
  const absl::StatusOr<CudaEvent> event = CudaEvent::Create();
  ASSERT_TRUE(event.ok());
  EXPECT_DEATH(run([&] { event->Record(context()); }), "a launch that it has not waited for");
}

TEST_F(RaceCheckerTest, SharedMemoryOfTwoBlocksIsNotTheSame) {
  Run({1, 3}, [] { *DynamicShared<uint32_t>() = blockIdx.x; });
}

template <typename T>
void WriteSharedVariable() {
  __shared__ T numbers[kWarp];
  numbers[Thread()] = static_cast<T>(Thread());
  __syncwarp();
  sink = numbers[Thread() ^ 1];
}
TEST_F(RaceCheckerTest, ATemplatesSharedVariableIsRefused) {
  EXPECT_DEATH(Run({kWarp}, &WriteSharedVariable<int>), "a variable that is not in shared memory");
}

// A copy to shared memory by thread 0, in the order that `steps` says: w waits, b is a barrier, r a
// read by thread `reader`.
class CopyRaceTest : public RaceCheckerTest {
 protected:
  void RunSteps(const char* steps, unsigned reader) const {
    const DeviceArray<uint32_t> array = OnDevice(std::vector<uint32_t>{1, 2, 3, 4});
    const uint32_t* source = array.data();
    Run({2 * kWarp}, [=] {
      auto* shared = DynamicShared<uint32_t>();
      if (Thread() == 0) CpAsync16(shared, source, true);
      CpAsyncCommit();
      for (const char* step = steps; *step != 0; ++step) {
        if (*step == 'w') CpAsyncWait<0>();
        if (*step == 'b') __syncthreads();
        if (*step == 'r' && Thread() == reader) sink = shared[3];
      }
    });
  }
  template <typename T>
  DeviceArray<T> OnDevice(const std::vector<T>& values) const {
    return const_cast<CopyRaceTest*>(this)->CudaTest::OnDevice(values);
  }
};

TEST_F(CopyRaceTest, ACopyIsThereForItsThreadAfterItsWait) {
  RunSteps("wr", 0);
  EXPECT_DEATH(RunSteps("rw", 0), "thread 0 .* thread 0, which has had a copy under way to them");
}

TEST_F(CopyRaceTest, ACopyIsThereForOthersAfterABarrierBehindTheWait) {
  RunSteps("wbr", 40);
  EXPECT_DEATH(RunSteps("wr", 40), kRace);
  EXPECT_DEATH(RunSteps("brw", 40), kRace);
}

TEST_F(CopyRaceTest, ACopyOverWhatIsStillReadNeedsABarrier) {
  const auto kernel = [](bool meets) {
    auto* shared = DynamicShared<uint32_t>();
    if (Thread() == kWarp) shared[2] = 1;
    if (meets) __syncthreads();
    if (Thread() == 0) CpAsync16(shared, shared + 64, false);
    CpAsyncCommit();
    CpAsyncWait<0>();
  };
  Run({2 * kWarp}, [&] { kernel(true); });
  EXPECT_DEATH(Run({2 * kWarp}, [&] { kernel(false); }), kRace);
}

TEST_F(CopyRaceTest, WhatACopyReadsMustNotChangeBeforeItsWait) {
  DeviceArray<uint32_t> array = OnDevice(std::vector<uint32_t>{1, 2, 3, 4});
  uint32_t* source = array.data();
  const auto kernel = [=](bool waits_before) {
    if (Thread() == 0) CpAsync16(DynamicShared<uint32_t>(), source, true);
    CpAsyncCommit();
    if (waits_before) CpAsyncWait<0>();
    __syncthreads();
    if (Thread() == 40) source[1] = 7;
    CpAsyncWait<0>();
  };
  Run({2 * kWarp}, [&] { kernel(true); });
  EXPECT_DEATH(Run({2 * kWarp}, [&] { kernel(false); }), kRace);
}

TEST_F(RaceCheckerTest, MatrixRowsAreReadByTheLanesThatGetThem) {
  const auto kernel = [](bool meets_before, bool meets_behind, bool transposed) {
    auto* row = DynamicShared<Bf16>() + Thread() * 8;
    for (int i = 0; i < 8; ++i) row[i] = Bf16{};
    if (meets_before) __syncwarp();
    uint32_t fragment[4];
    transposed ? LoadMatrix4Transposed(fragment, row) : LoadMatrix4(fragment, row);
    if (meets_behind) __syncwarp();
    row[3] = Bf16{1};
  };
  for (const bool transposed : {false, true}) {
    Run({kWarp}, [&] { kernel(true, true, transposed); });
    EXPECT_DEATH(Run({kWarp}, [&] { kernel(false, true, transposed); }), "reads from");
    EXPECT_DEATH(Run({kWarp}, [&] { kernel(true, false, transposed); }), "writes to");
  }
}

// A product of the first of two warpgroups; then a thread of the second one changes its operand.
void MultiplyAndChange(bool meets_before, bool waits_before) {
  auto* shared = DynamicShared<Bf16>();
  for (unsigned i = Thread(); i < 1024; i += 256) shared[i] = Bf16{};
  FenceSharedForWgmma();
  if (meets_before) __syncthreads();
  float sums[8][4] = {};
  uint32_t a[4] = {};
  if (Thread() < 128) {
    WgmmaFence(sums, a);
    WgmmaBf16<false>(sums, a, SharedMatrix(shared, 0, 1024), true);
    WgmmaCommit();
    if (waits_before) WgmmaWait<0>(sums, a);
  }
  __syncthreads();
  if (Thread() == 200) shared[0] = Bf16{};
  if (Thread() < 128 && !waits_before) WgmmaWait<0>(sums, a);
}

TEST_F(RaceCheckerTest, AProductReadsSharedMemoryUntilItsWait) {
  Run({256}, [] { MultiplyAndChange(true, true); });
  EXPECT_DEATH(Run({256}, [] { MultiplyAndChange(false, true); }), kRace);
  EXPECT_DEATH(Run({256}, [] { MultiplyAndChange(true, false); }), "a race: .*thread 200");
}

}  // namespace
}  // namespace baton
