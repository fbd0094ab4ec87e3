// What the emulation does for wgmma, and what it refuses.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "engine/kernels/cuda/ptx.h"
#include "engine/kernels/cuda/wgmma.h"
#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {
namespace {

constexpr int32_t kRows = 64;
constexpr int32_t kDepth = 16;
constexpr int32_t kLineNumbers = 64;                // 128 bytes
constexpr int32_t kCoreNumbers = 8 * kLineNumbers;  // 1024 bytes
constexpr int32_t kMostColumns = 128;
constexpr size_t kSharedBytes = 32 << 10;

// Bits are what CUTLASS's GmmaDescriptor has: address, leading and stride offsets in units of 16
// bytes, 1 for 128-byte swizzle in the highest two bits.
TEST(SwizzledDescriptorTest, HasTheFieldsOfTheMatrixDescriptor) {
  EXPECT_EQ(SwizzledDescriptor(0x400, 8192, 1024), 0x4000'0040'0200'0040u);
  EXPECT_EQ(SwizzledDescriptor(0x38c60, 0, 16), 0x4000'0001'0000'38c6u);
}

// A product of one warpgroup.
struct ProductCase {
  int32_t columns = 64;
  bool n_major = false;
  // Of the matrix in shared memory: of the first number, and where columns 64 and on lie (N-major).
  int32_t first = 0;
  int32_t panel = 0;
  int32_t core = kCoreNumbers;  // from one core to the next
};

class WgmmaTest : public testing::Test {
 protected:
  void SetUp() override {
    std::normal_distribution<float> normal(0.0f, 1.0f);
    for (auto* matrix : {&a_, &b_}) {
      for (Bf16& number : *matrix) number = ToBf16(normal(random_));
    }
    for (float& number : d_) number = normal(random_);
  }

  float A(int32_t row, int32_t k) const {
    return ToFloat(a_[static_cast<size_t>(row * kDepth + k)]);
  }
  float B(int32_t k, int32_t n) const {
    return ToFloat(b_[static_cast<size_t>(k * kMostColumns + n)]);
  }
  float& D(int32_t row, int32_t n) { return d_[static_cast<size_t>(row * kMostColumns + n)]; }

  // The place of number [k][n] of b in shared memory, in numbers: 8 lines are a core, and the eight
  // groups of 8 numbers of a line are in an order of their own for each line of a core.
  static int32_t Place(const ProductCase& c, int32_t k, int32_t n) {
    const int32_t line = c.n_major ? k % 8 : n % 8;
    const int32_t core = c.n_major ? n / 64 * c.panel + k / 8 * c.core : n / 8 * c.core;
    const int32_t along = c.n_major ? n % 64 : c.first + k;
    return core + line * kLineNumbers + ((along / 8) ^ line) * 8 + along % 8;
  }

  void WriteB(const ProductCase& c) const {
    if (threadIdx.x > 0) return;
    auto* shared = DynamicShared<Bf16>();
    for (int32_t k = 0; k < kDepth; ++k) {
      for (int32_t n = 0; n < c.columns; ++n) {
        shared[Place(c, k, n)] = b_[static_cast<size_t>(k * kMostColumns + n)];
      }
    }
  }
  static uint64_t DescribeB(const ProductCase& c) {
    return SharedMatrix(DynamicShared<Bf16>() + c.first,
                        static_cast<uint32_t>(c.panel) * sizeof(Bf16),
                        static_cast<uint32_t>(c.core) * sizeof(Bf16));
  }
  // The rows of a that the running thread has.
  void ReadA(uint32_t (&a)[4]) const {
    for (int32_t i = 0; i < 4; ++i) {
      const int32_t at = (Row() + i % 2 * 8) * kDepth + Column() + i / 2 * 8;
      const Bf16* pair = &a_[static_cast<size_t>(at)];
      a[i] = uint32_t{pair[0].bits} | uint32_t{pair[1].bits} << 16;
    }
  }
  static int32_t Row() {
    return static_cast<int32_t>(threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4);
  }
  static int32_t Column() { return static_cast<int32_t>(threadIdx.x % 4 * 2); }

  template <int32_t kColumns, bool kNMajor>
  void ExpectProduct(ProductCase c, bool adds) {
    c.columns = kColumns;
    c.n_major = kNMajor;
    const std::vector<float> before = d_;
    const auto at = [](int32_t i) {
      return std::pair(Row() + i / 2 % 2 * 8, i / 4 * 8 + Column() + i % 2);
    };
    RunThreads([&] {
      WriteB(c);
      FenceSharedForWgmma();
      __syncthreads();
      uint32_t a[4];
      ReadA(a);
      float d[kColumns / 8][4];
      for (int32_t i = 0; i < kColumns / 2; ++i) d[i / 4][i % 4] = D(at(i).first, at(i).second);
      WgmmaFence(d, a);
      WgmmaBf16<kNMajor>(d, a, DescribeB(c), adds);
      WgmmaBf16<kNMajor>(d, a, DescribeB(c), true);
      WgmmaCommit();
      EXPECT_TRUE(std::isnan(d[0][0]) && std::isnan(d[kColumns / 8 - 1][3]));
      WgmmaWait<0>(d, a);
      for (int32_t i = 0; i < kColumns / 2; ++i) D(at(i).first, at(i).second) = d[i / 4][i % 4];
    });
    for (int32_t row = 0; row < kRows; ++row) {
      for (int32_t n = 0; n < kColumns; ++n) {
        double exact = adds ? before[static_cast<size_t>(row * kMostColumns + n)] : 0.0;
        for (int32_t k = 0; k < kDepth; ++k) exact += 2.0 * double{A(row, k)} * double{B(k, n)};
        ASSERT_NEAR(D(row, n), exact, 1e-4) << row << " " << n;
      }
    }
  }

  static void RunThreads(std::function<void()> thread, unsigned threads = kWarpgroupSize) {
    cuda_emulation::RunKernel({.grid = dim3(1),
                               .block = dim3(threads),
                               .shared_bytes = kSharedBytes,
                               .thread = std::move(thread)});
  }

  std::mt19937_64 random_{1};
  std::vector<Bf16> a_ = std::vector<Bf16>(kRows * kDepth);
  std::vector<Bf16> b_ = std::vector<Bf16>(kDepth * kMostColumns);
  std::vector<float> d_ = std::vector<float>(kRows * kMostColumns);
};

TEST_F(WgmmaTest, MultipliesAMatrixWhoseLinesGoAlongK) {
  for (const int32_t first : {0, 16, 32, 48}) {
    ExpectProduct<64, false>({.first = first}, true);
    ExpectProduct<128, false>({.first = first}, false);
  }
  ExpectProduct<64, false>({.core = 2 * kCoreNumbers}, true);
}

TEST_F(WgmmaTest, MultipliesAMatrixWhoseLinesGoAlongN) {
  ExpectProduct<64, true>({}, true);
  ExpectProduct<128, true>({.panel = 2 * kCoreNumbers}, true);
  ExpectProduct<128, true>({.panel = 8 * kCoreNumbers}, false);
  ExpectProduct<128, true>({.panel = kCoreNumbers, .core = 2 * kCoreNumbers}, false);
}

// Each does its products over zeros in shared memory.
class WgmmaDeathTest : public WgmmaTest {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  struct Thread {
    float d[8][4] = {};
    uint32_t a[4] = {};
    const uint64_t b = SharedMatrix(DynamicShared<Bf16>(), 0, 1024);

    void Start() { WgmmaBf16<false>(d, a, b, true); }
  };
  static void ExpectRefusal(const std::function<void(Thread&)>& body, const char* why) {
    EXPECT_DEATH(RunThreads([&] {
                   Thread thread;
                   body(thread);
                 }),
                 why);
  }
  static void CopyZeros() {
    for (unsigned i = threadIdx.x; i < kSharedBytes / 16; i += blockDim.x) {
      CpAsync16(DynamicShared<char>() + i * 16, nullptr, false);
    }
    CpAsyncCommit();
  }
};

TEST_F(WgmmaDeathTest, RefusesRegistersThatNoFenceHandedOver) {
  ExpectRefusal(
      [](Thread& t) {
        WgmmaFence(t.a);
        t.Start();
      },
      "the sums of a product were not handed over");
  ExpectRefusal(
      [](Thread& t) {
        WgmmaFence(t.d);
        t.Start();
      },
      "the first matrix of a product was not handed over");
  ExpectRefusal(
      [](Thread& t) {
        WgmmaFence(t.d, t.a);
        t.d[3][1] = 1.0f;
        t.Start();
      },
      "the sums of a product were not handed over");
}

TEST_F(WgmmaDeathTest, RefusesRegistersThatAreTouchedMeanwhile) {
  ExpectRefusal(
      [](Thread& t) {
        WgmmaFence(t.d, t.a);
        t.Start();
        WgmmaCommit();
        t.d[3][1] = 1.0f;
        WgmmaWait<0>(t.d);
      },
      "the sums of a product were changed");
  ExpectRefusal(
      [](Thread& t) {
        WgmmaFence(t.d, t.a);
        t.Start();
        WgmmaCommit();
        t.a[2] = 1;
        WgmmaWait<0>(t.d);
      },
      "the first matrix of a product was changed");
  ExpectRefusal(
      [](Thread& t) {
        WgmmaFence(t.d, t.a);
        t.Start();
        WgmmaCommit();
        WgmmaWait<1>(t.d);
      },
      "sums before it was waited for");
}

TEST_F(WgmmaDeathTest, RefusesSharedMemoryThatChangesMeanwhile) {
  ExpectRefusal(
      [](Thread& t) {
        WgmmaFence(t.d, t.a);
        t.Start();
        WgmmaCommit();
        __syncthreads();
        DynamicShared<Bf16>()[8] = {};
        WgmmaWait<0>(t.d);
      },
      "shared memory was changed");
}

TEST_F(WgmmaDeathTest, RefusesCopiesThatAreNotVisible) {
  ExpectRefusal(
      [](Thread& t) {
        CopyZeros();
        WgmmaFence(t.d, t.a);
        t.Start();
      },
      "that a copy is under way to");
  ExpectRefusal(
      [](Thread& t) {
        CopyZeros();
        FenceSharedForWgmma();
        CpAsyncWait<0>();
        __syncthreads();
        WgmmaFence(t.d, t.a);
        t.Start();
      },
      "without a proxy fence behind the copy");
}

TEST_F(WgmmaDeathTest, RefusesAWarpgroupThatIsNotTogether) {
  ExpectRefusal(
      [](Thread& t) {
        WgmmaFence(t.d, t.a);
        if (threadIdx.x < 96) t.Start();
      },
      "a thread of the warpgroup has ended|not all threads of the warpgroup join");
  ExpectRefusal(
      [](Thread& t) {
        WgmmaFence(t.d, t.a);
        WgmmaBf16<false>(t.d, t.a, t.b + (threadIdx.x == 70 ? 2 : 0), true);
      },
      "threads of a warpgroup with different products");
  EXPECT_DEATH(RunThreads(
                   [] {
                     Thread t;
                     WgmmaFence(t.d, t.a);
                     t.Start();
                   },
                   96),
               "a warpgroup beyond the block");
}

TEST_F(WgmmaDeathTest, RefusesProductsThatNobodyWaitsFor) {
  ExpectRefusal(
      [](Thread& t) {
        WgmmaFence(t.d, t.a);
        t.Start();
        WgmmaCommit();
      },
      "ended before its products");
}

TEST_F(WgmmaDeathTest, RefusesMatricesThatItDoesNotKnow) {
  ExpectRefusal(
      [](Thread& t) {
        WgmmaFence(t.d, t.a);
        WgmmaBf16<false>(t.d, t.a, t.b ^ uint64_t{3} << 62, true);  // 64-byte swizzle
      },
      "whose layout is not emulated");
  ExpectRefusal(
      [](Thread& t) {
        WgmmaFence(t.d, t.a);
        WgmmaBf16<false>(t.d, t.a, t.b + (kSharedBytes >> 4), true);
      },
      "a matrix beyond dynamic shared memory");
}

}  // namespace
}  // namespace baton
