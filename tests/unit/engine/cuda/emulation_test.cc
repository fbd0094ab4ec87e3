// What the emulation of CUDA does, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/linear.h"
#include "engine/kernels/cuda/ptx.h"
#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {
namespace {

using cuda_emulation::RunKernel;

void RunThreads(unsigned threads, std::function<void()> thread, size_t shared_bytes = 0) {
  RunKernel({.grid = dim3(1),
             .block = dim3(threads),
             .shared_bytes = shared_bytes,
             .thread = std::move(thread)});
}

TEST(EmulationTest, EveryThreadOfEveryBlockRunsOnce) {
  std::vector<int> runs(2 * 3 * 2 * 4 * 2);
  RunKernel({.grid = dim3(2, 3), .block = dim3(4, 2, 2), .thread = [&] {
               EXPECT_EQ(gridDim.y, 3u);
               EXPECT_EQ(blockDim.x, 4u);
               const unsigned block = blockIdx.y * 2 + blockIdx.x;
               ++runs[block * 16 + (threadIdx.z * 2 + threadIdx.y) * 4 + threadIdx.x];
             }});
  for (const int count : runs) EXPECT_EQ(count, 1);
}

TEST(EmulationTest, ABarrierSeparatesWritesFromReads) {
  for (const unsigned threads : {1u, 33u, 256u}) {
    std::vector<unsigned> found(threads);
    RunThreads(
        threads,
        [&] {
          auto* shared = DynamicShared<unsigned>();
          for (unsigned round = 0; round < 3; ++round) {
            shared[threadIdx.x] = threadIdx.x + round;
            __syncthreads();
            found[threadIdx.x] = shared[(threadIdx.x + 1) % threads];
            __syncthreads();
          }
          EXPECT_EQ(__syncthreads_count(threadIdx.x % 2 == 0), static_cast<int>((threads + 1) / 2));
          EXPECT_EQ(__syncthreads_or(threadIdx.x == 0), 1);
          EXPECT_EQ(__syncthreads_and(threadIdx.x == 0), threads == 1 ? 1 : 0);
        },
        threads * sizeof(unsigned));
    for (unsigned i = 0; i < threads; ++i) EXPECT_EQ(found[i], (i + 1) % threads + 2);
  }
}

TEST(EmulationTest, ShufflesReadTheNamedLane) {
  RunThreads(64, [] {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int warp = static_cast<int>(threadIdx.x / 32) * 100;
    const int value = warp + lane;
    EXPECT_EQ(__shfl_sync(kFullWarp, value, 7), warp + 7);
    EXPECT_EQ(__shfl_sync(kFullWarp, value, 3, 8), warp + lane / 8 * 8 + 3);
    EXPECT_EQ(__shfl_xor_sync(kFullWarp, value, 5), warp + (lane ^ 5));
    EXPECT_EQ(__shfl_up_sync(kFullWarp, value, 2), lane < 2 ? value : value - 2);
    EXPECT_EQ(__shfl_down_sync(kFullWarp, value, 3, 16), lane % 16 < 13 ? value + 3 : value);
    EXPECT_EQ(__ballot_sync(kFullWarp, lane % 2), 0xaaaaaaaau);
    EXPECT_TRUE(__any_sync(kFullWarp, lane == 9));
    EXPECT_FALSE(__all_sync(kFullWarp, lane == 9));
    EXPECT_EQ(WarpSum(static_cast<float>(lane)), 496.0f);
    if (lane < 16) {
      EXPECT_EQ(__shfl_xor_sync(0xffffu, lane, 8), lane ^ 8);
    }
    __syncwarp();
  });
}

TEST(EmulationTest, SharedMemoryIsPoisonedBeforeEveryBlock) {
  int poisoned = 0;
  const auto thread = [&] {
    __shared__ float variable;
    poisoned += std::isnan(*DynamicShared<float>()) && std::isnan(variable) ? 1 : 0;
    *DynamicShared<float>() = 1.0f;
    variable = 1.0f;
  };
  RunKernel({.grid = dim3(3), .block = dim3(1), .shared_bytes = 4, .thread = thread});
  EXPECT_EQ(poisoned, 3);
}

TEST(EmulationTest, ACopyArrivesInItsWaitAndSpoilsItsTargetBefore) {
  alignas(16) const float source[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  RunThreads(
      1,
      [&] {
        auto* shared = DynamicShared<float>();
        std::fill_n(shared, 12, 0.0f);
        CpAsync16(shared, source, true);
        CpAsyncCommit();
        CpAsync16(shared + 4, source + 4, true);
        CpAsync16(shared + 8, source, false);
        CpAsyncCommit();
        EXPECT_TRUE(std::isnan(shared[0]));
        CpAsyncWait<1>();
        EXPECT_EQ(shared[3], 4.0f);
        EXPECT_TRUE(std::isnan(shared[4]));
        CpAsyncWait<0>();
        EXPECT_EQ(shared[4], 5.0f);
        EXPECT_EQ(shared[8], 0.0f);
      },
      48);
}

// Both operands come from row-major memory, as in a kernel: a [16, 16] by LoadMatrix4, b [16, 8] as
// half of a [16, 16] by LoadMatrix4Transposed.
TEST(EmulationTest, MatrixFragmentsMultiplyAsANaiveProduct) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> uniform(-1, 1);
  float a[16][16];
  float b[16][16];
  for (auto& row : a) {
    for (float& x : row) x = ToFloat(ToBf16(uniform(random)));
  }
  for (auto& row : b) {
    for (float& x : row) x = ToFloat(ToBf16(uniform(random)));
  }
  float d[16][16] = {};
  RunThreads(
      32,
      [&] {
        auto* shared_a = DynamicShared<Bf16>();
        Bf16* shared_b = shared_a + 256;
        const auto lane = static_cast<int>(threadIdx.x);
        for (int i = lane; i < 256; i += 32) {
          shared_a[i] = ToBf16(a[i / 16][i % 16]);
          shared_b[i] = ToBf16(b[i / 16][i % 16]);
        }
        __syncwarp();
        uint32_t a_fragment[4];
        uint32_t b_fragment[4];
        LoadMatrix4(a_fragment, shared_a + lane % 16 * 16 + lane / 16 * 8);
        LoadMatrix4Transposed(b_fragment, shared_b + lane % 16 * 16 + lane / 16 * 8);
        for (int half = 0; half < 2; ++half) {
          float sums[4] = {1, 1, 1, 1};
          MmaBf16(sums, a_fragment, {b_fragment[2 * half], b_fragment[2 * half + 1]});
          for (int i = 0; i < 4; ++i)
            d[lane / 4 + i / 2 * 8][half * 8 + lane % 4 * 2 + i % 2] = sums[i];
        }
      },
      1024);
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 16; ++column) {
      double exact = 1;
      for (int k = 0; k < 16; ++k) exact += double{a[row][k]} * b[k][column];
      EXPECT_NEAR(d[row][column], exact, 1e-5);
    }
  }
}

TEST(EmulationTest, ConversionsAreThoseOfTheInstructions) {
  EXPECT_EQ(RoundToBf16(1.00390625f).bits, 0x3f80);  // half way: to even
  EXPECT_EQ(RoundToBf16(-NAN).bits, 0x7fff);
  EXPECT_EQ(PackBf16(1.0f, -2.0f), 0xc0003f80u);
  EXPECT_EQ(LowBf16(0xc0003f80u), 1.0f);
  EXPECT_EQ(HighBf16(0xc0003f80u), -2.0f);
  EXPECT_EQ(Exp2(-INFINITY), 0.0f);
  EXPECT_EQ(Exp2(3.0f), 8.0f);
}

using EmulationDeathTest = CudaTest;

void MeetAtTwoBarriers() {
  if (threadIdx.x == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

TEST_F(EmulationDeathTest, RefusesABarrierThatNotAllThreadsReach) {
  EXPECT_DEATH(RunThreads(64,
                          [] {
                            if (threadIdx.x != 5) __syncthreads();
                          }),
               "a barrier that not all threads of the block reach.*thread .5, 0, 0. has ended");
  EXPECT_DEATH(RunThreads(2, MeetAtTwoBarriers), "barriers at different places");
}

TEST_F(EmulationDeathTest, RefusesACollectiveThatNotAllLanesJoin) {
  EXPECT_DEATH(RunThreads(32,
                          [] {
                            if (threadIdx.x < 31) WarpSum(1.0f);
                          }),
               "a collective that not all named lanes join.*thread .31, 0, 0. has ended");
  EXPECT_DEATH(RunThreads(16, [] { WarpSum(1.0f); }), "names a lane beyond the block");
  EXPECT_DEATH(RunThreads(32,
                          [] {
                            if (threadIdx.x == 0) {
                              __syncwarp();
                            } else {
                              WarpSum(1.0f);
                            }
                          }),
               "lanes of one mask in different collectives");
  EXPECT_DEATH(RunThreads(32,
                          [] {
                            if (threadIdx.x < 2) __shfl_sync(3u, 1, 2);
                          }),
               "a shuffle from a lane that takes no part");
}

TEST_F(EmulationDeathTest, RefusesToTouchWhatIsNotTheirs) {
  EXPECT_DEATH(RunThreads(
                   1, [] { DynamicShared<char>()[8] = 0; }, 8),
               "");
  DeviceArray<char> array = OnDevice<char>(10);
  EXPECT_DEATH(array.data()[0] = 0, "") << "the host";
  EXPECT_DEATH(
      {
        cudaMemsetAsync(array.data(), 0, 10, context().stream());
        cuda_emulation::Enqueue(context().stream(), [&] { array.data()[10] = 0; });
        cudaStreamSynchronize(context().stream());
      },
      "");
}

using EmulatedRuntimeTest = CudaTest;

TEST_F(EmulatedRuntimeTest, WorkWaitsUntilItIsWaitedFor) {
  bool ran = false;
  cuda_emulation::Enqueue(context().stream(), [&] { ran = true; });
  EXPECT_FALSE(ran);
  ASSERT_TRUE(context().Synchronize().ok());
  EXPECT_TRUE(ran);
}

TEST_F(EmulatedRuntimeTest, NewMemoryIsPoisoned) {
  EXPECT_TRUE(std::isnan(OnHost(OnDevice<float>(3))[2]));
}

TEST_F(EmulatedRuntimeTest, RefusesLaunchesThatADeviceRefuses) {
  cudaLaunchConfig_t config{.gridDim = dim3(1), .blockDim = dim3(1025)};
  EXPECT_EQ(cuda_emulation::EnqueueKernel(config, nullptr, [] {}), cudaErrorInvalidConfiguration);
  config.blockDim = dim3(32);
  config.gridDim = dim3(1, 65536);
  EXPECT_EQ(cuda_emulation::EnqueueKernel(config, nullptr, [] {}), cudaErrorInvalidConfiguration);
  config.gridDim = dim3(1);
  config.dynamicSmemBytes = 50000;
  EXPECT_EQ(cuda_emulation::EnqueueKernel(config, nullptr, [] {}), cudaErrorInvalidValue);
  int key = 0;
  EXPECT_EQ(cudaFuncSetAttribute(&key, cudaFuncAttributeMaxDynamicSharedMemorySize, 50000),
            cudaSuccess);
  EXPECT_EQ(cuda_emulation::EnqueueKernel(config, &key, [] {}), cudaSuccess);
  EXPECT_EQ(cudaFuncSetAttribute(&key, cudaFuncAttributeMaxDynamicSharedMemorySize, 300000),
            cudaErrorInvalidValue);
}

// For a test: there is one otherwise.
class SeveralDevices {
 public:
  explicit SeveralDevices(int count) { cuda_emulation::UseDevices(count); }
  ~SeveralDevices() {
    cudaSetDevice(0);
    cudaGetLastError();
    cuda_emulation::UsePeers(true);
    cuda_emulation::UseDevices(1);
  }
};

// As CUDA's own: who asks, what for, and what comes of it.
TEST_F(EmulatedRuntimeTest, ADeviceReachesAnotherOnesMemoryOnceItWasToldTo) {
  const SeveralDevices devices(3);
  int can = -1;
  EXPECT_EQ(cudaDeviceCanAccessPeer(&can, 1, 0), cudaSuccess);
  EXPECT_EQ(can, 1);
  EXPECT_EQ(cudaDeviceCanAccessPeer(&can, 1, 1), cudaSuccess);
  EXPECT_EQ(can, 0);
  EXPECT_EQ(cudaDeviceCanAccessPeer(&can, 1, 3), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaDeviceEnablePeerAccess(3, 0), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaDeviceEnablePeerAccess(0, 0), cudaErrorInvalidDevice) << "itself";
  EXPECT_EQ(cudaDeviceEnablePeerAccess(1, 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaDeviceEnablePeerAccess(1, 0), cudaSuccess);
  EXPECT_EQ(cudaDeviceEnablePeerAccess(1, 0), cudaErrorPeerAccessAlreadyEnabled);
  EXPECT_EQ(cudaGetLastError(), cudaErrorPeerAccessAlreadyEnabled);
  cuda_emulation::UsePeers(false);
  EXPECT_EQ(cudaDeviceCanAccessPeer(&can, 0, 1), cudaSuccess);
  EXPECT_EQ(can, 0);
  EXPECT_EQ(cudaDeviceEnablePeerAccess(1, 0), cudaErrorInvalidDevice);
}

__global__ void WriteByte(std::byte* to) { *to = std::byte{7}; }

TEST_F(EmulationDeathTest, RefusesAKernelThatIsGivenMemoryThatItsDeviceDoesNotReach) {
  const SeveralDevices devices(2);
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  DeviceArray<std::byte> there = OnDevice<std::byte>(1);
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  const auto write = [&] {
    return LaunchOn(context().stream(), {.grid = 1, .block = 1}, WriteByte, there.data());
  };
  EXPECT_DEATH(write(), "a kernel of device 0 is given memory of device 1");
  ASSERT_EQ(cudaDeviceEnablePeerAccess(1, 0), cudaSuccess);
  EXPECT_EQ(write(), cudaSuccess);
  EXPECT_EQ(OnHost(there), std::vector{std::byte{7}});
  // A copy finds its way without, too.
  DeviceArray<std::byte> here = OnDevice<std::byte>(1);
  cuda_emulation::UsePeers(false);
  EXPECT_EQ(cudaMemcpyPeerAsync(here.data(), 0, there.data(), 1, 1, context().stream()),
            cudaSuccess);
  EXPECT_EQ(OnHost(here), std::vector{std::byte{7}});
}

__global__ void WaitInFirstWarp(std::byte* to) {
  if (threadIdx.x >= kWarpSize) return;
  WaitForPreviousGrid();
  if (threadIdx.x == 0) *to = std::byte{8};
}

TEST_F(EmulationDeathTest, RefusesADependentLaunchOfWhichAThreadDoesNotWait) {
  DeviceArray<std::byte> array = OnDevice<std::byte>(1);
  const auto run = [&](auto kernel, unsigned threads) {
    Launch(context(), "test", {.grid = 1, .block = threads}, kernel, array.data());
    return context().Synchronize();
  };
  ASSERT_TRUE(context().dependent_launches());
  EXPECT_DEATH((void)run(WriteByte, 1),
               "thread .0, 0, 0. of block .* has not waited.*\n.*WriteByte");
  EXPECT_DEATH((void)run(WaitInFirstWarp, 33), "thread .32, 0, 0. of .* has not waited");
  EXPECT_TRUE(run(WaitInFirstWarp, 32).ok());
  // Others need not.
  ASSERT_EQ(LaunchOn(context().stream(), {.grid = 1, .block = 1}, WriteByte, array.data()),
            cudaSuccess);
  EXPECT_EQ(OnHost(array), std::vector{std::byte{7}});
}

// So that what is to be batch-invariant is not so by chance.
TEST_F(EmulatedRuntimeTest, AProductsBitsMayDependOnItsNumberOfRows) {
  constexpr int32_t kN = 40, kK = 72, kRows = 28;
  CudaMatrix matrix = *CudaMatrix::Create(kN, kK);
  Upload(context(), RandomBf16(size_t{kN} * kK), &matrix.weights());
  const DeviceArray<Bf16> input = OnDevice(RandomBf16(size_t{kRows} * kK));
  CudaLinear linear(context());
  const auto first_rows = [&](int32_t rows) {
    DeviceArray<float> output = OnDevice<float>(size_t{kRows} * kN);
    linear.Run({.input = input.data(),
                .weights = &matrix,
                .epilogue = CudaEpilogue::kStoreF32,
                .output = output.data(),
                .rows = rows});
    std::vector<float> found = OnHost(output);
    found.resize(size_t{20} * kN);
    return found;
  };
  EXPECT_EQ(first_rows(20), first_rows(24)) << "one bucket";
  EXPECT_NE(first_rows(20), first_rows(kRows));
}

// Before anything is computed: such a library knows no scales for rows.
TEST_F(EmulatedRuntimeTest, ALibraryTooOldForFp8IsRefused) {
  const CudaMatrix matrix = *CudaMatrix::Create(32, 48, WeightElement::kFp8);
  CudaLinear linear(context());
  cuda_emulation::SetCublasLtVersion(120804);
  const absl::Status refused = linear.Reserve(matrix, 4);
  cuda_emulation::SetCublasLtVersion(120900);
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("120804"));
  EXPECT_TRUE(linear.Reserve(matrix, 4).ok());
}

}  // namespace
}  // namespace baton
