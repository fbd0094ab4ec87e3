// Batch-invariant products against naive ones and, bit by bit, against themselves among other rows
// and by the other kernels.
#include "engine/kernels/cuda/invariant_linear.h"

#include <gmock/gmock.h>

#include <cstring>
#include <limits>

#include "tests/unit/engine/cuda/product_harness.h"

namespace baton {
namespace {

constexpr InvariantKernel kKernels[] = {InvariantKernel::kFewRows, InvariantKernel::kSmallTiles,
                                        InvariantKernel::kLargeTiles};
// Inputs that are more chunks than there are partial sums, and not as many for each; the last chunk
// is one piece.
constexpr int32_t kManyInputs = 11 * 128 + 8;

class InvariantLinearTest : public ProductTest {
 protected:
  CudaMatrix RandomMatrix(int32_t n, int32_t k) {
    return Matrix(RandomBf16(static_cast<size_t>(n) * k), n, k);
  }

  // Rows [begin, begin + rows) of the input, in f32.
  std::vector<float> Product(InvariantKernel kernel, const CudaMatrix& matrix,
                             const DeviceArray<Bf16>& input, int32_t begin, int32_t rows) {
    DeviceArray<float> output = OnDevice<float>(static_cast<size_t>(rows) * matrix.n());
    InvariantLinearBy(context(), kernel,
                      {.input = input.data() + int64_t{begin} * matrix.k(),
                       .weights = &matrix,
                       .epilogue = CudaEpilogue::kStoreF32,
                       .output = output.data(),
                       .rows = rows});
    return OnHost(output);
  }

  // Runs one product of random numbers, and compares.
  void ExpectProduct(InvariantKernel kernel, const ProductShape& shape, CudaEpilogue epilogue,
                     bool biased) {
    const std::vector<Bf16> weights = RandomBf16(static_cast<size_t>(shape.n) * shape.k);
    const std::vector<Bf16> input = RandomBf16(static_cast<size_t>(shape.rows) * shape.k);
    const std::vector<float> bias =
        biased ? Random(static_cast<size_t>(shape.n), 8.0f) : std::vector<float>();
    const std::vector<float> before = Random(static_cast<size_t>(shape.rows) * shape.n);
    CudaMatrix matrix = Matrix(weights, shape.n, shape.k);
    if (biased) BATON_CHECK_OK(matrix.SetBias(context(), bias));
    const DeviceArray<Bf16> device_input = OnDevice(input);
    DeviceArray<float> f32_output = OnDevice(before);
    DeviceArray<Bf16> bf16_output = OnDevice<Bf16>(before.size());
    const bool bf16 = epilogue == CudaEpilogue::kStoreBf16;
    InvariantLinearBy(context(), kernel,
                      {.input = device_input.data(),
                       .weights = &matrix,
                       .epilogue = epilogue,
                       .output = bf16 ? static_cast<void*>(bf16_output.data()) : f32_output.data(),
                       .rows = shape.rows});
    const std::vector<float> f32 = OnHost(f32_output);
    const std::vector<Bf16> rounded = bf16 ? OnHost(bf16_output) : std::vector<Bf16>();
    for (int32_t row = 0; row < shape.rows; ++row) {
      for (int32_t i = 0; i < shape.n; ++i) {
        const size_t at = static_cast<size_t>(row) * shape.n + i;
        double exact = epilogue == CudaEpilogue::kAddToF32 ? before[at] : 0.0;
        if (biased) exact += bias[i];
        double size = std::abs(exact);
        for (int32_t j = 0; j < shape.k; ++j) {
          const double product = double{ToFloat(input[int64_t{row} * shape.k + j])} *
                                 ToFloat(weights[int64_t{i} * shape.k + j]);
          exact += product;
          size += std::abs(product);
        }
        ASSERT_NEAR(bf16 ? ToFloat(rounded[at]) : f32[at], exact,
                    size * 0x1p-18 + (bf16 ? Bf16Tolerance(exact) : 0.0))
            << shape.n << " " << shape.k << " " << shape.rows << " at " << row << " " << i;
      }
    }
  }
};

TEST_F(InvariantLinearTest, MultipliesAsTheNaiveProduct) {
  for (const InvariantKernel kernel : kKernels) {
    for (const ProductShape& shape :
         {ProductShape{8, 8, 1}, ProductShape{24, 40, 3}, ProductShape{16, 128, 8},
          ProductShape{40, 136, 9}, ProductShape{56, 264, 17}, ProductShape{8, kManyInputs, 2},
          ProductShape{136, 72, 70}}) {
      for (const CudaEpilogue epilogue : kEpilogues) {
        ExpectProduct(kernel, shape, epilogue, /*biased=*/shape.rows % 2 == 1);
      }
    }
  }
}

TEST_F(InvariantLinearTest, GatedProductsHaveTheBitsOfThoseGatedAfterwards) {
  for (const InvariantKernel kernel : kKernels) {
    for (const ProductShape& shape : {ProductShape{8, 8, 1}, ProductShape{40, 136, 9},
                                      ProductShape{56, 264, 17}, ProductShape{136, 72, 70}}) {
      for (const bool biased : {false, true}) {
        CudaMatrix matrix = RandomMatrix(shape.n, shape.k);
        const std::vector<float> bias = Random(static_cast<size_t>(shape.n), 8.0f);
        if (biased) BATON_CHECK_OK(matrix.SetBias(context(), bias));
        ExpectGatedAlike(matrix, shape.rows, [&](CudaLinearArgs args) {
          args.pairs = nullptr;
          InvariantLinearBy(context(), kernel, args);
        });
      }
    }
  }
}

TEST_F(InvariantLinearTest, ARowHasTheSameBitsInAnyNumberOfRowsAndByAnyKernel) {
  constexpr int32_t kN = 24;
  constexpr int32_t kRows = 300;
  const CudaMatrix matrix = RandomMatrix(kN, kManyInputs);
  const DeviceArray<Bf16> input = OnDevice(RandomBf16(size_t{kRows} * kManyInputs));
  const std::vector<float> all = Product(InvariantKernel::kLargeTiles, matrix, input, 0, kRows);
  const auto expect_same = [&](InvariantKernel kernel, int32_t begin, int32_t rows) {
    const std::vector<float> some = Product(kernel, matrix, input, begin, rows);
    EXPECT_EQ(std::memcmp(some.data(), all.data() + int64_t{begin} * kN, some.size() * 4), 0)
        << rows << " rows from " << begin << " by kernel " << static_cast<int>(kernel);
  };
  for (int32_t rows = 1; rows <= 64; rows += rows < 18 ? 1 : 5) {
    expect_same(InvariantKernel::kFewRows, (7 * rows) % 200, rows);
  }
  for (const int32_t rows : {65, 128, 200, 300}) {
    for (const InvariantKernel kernel : kKernels) expect_same(kernel, kRows - rows, rows);
  }
  expect_same(InvariantKernel::kSmallTiles, 13, 1);
  expect_same(InvariantKernel::kLargeTiles, 21, 5);
}

TEST_F(InvariantLinearTest, KernelsAgreeWhereSomePartialSumsAreEmptyOrEnd) {
  constexpr int32_t kN = 16;
  constexpr int32_t kRows = 5;
  for (const int32_t k : {8, 40, 64, 72, 128, 136, 8 * 128, 8 * 128 + 8, 17 * 128 - 8}) {
    const CudaMatrix matrix = RandomMatrix(kN, k);
    const DeviceArray<Bf16> input = OnDevice(RandomBf16(size_t{kRows} * k));
    const std::vector<float> few = Product(InvariantKernel::kFewRows, matrix, input, 0, kRows);
    for (const InvariantKernel kernel :
         {InvariantKernel::kSmallTiles, InvariantKernel::kLargeTiles}) {
      EXPECT_EQ(Product(kernel, matrix, input, 0, kRows), few) << k << " inputs";
    }
  }
}

// More tiles of rows than blocks take together.
TEST_F(InvariantLinearTest, ManyTilesOfRowsAreAllComputed) {
  constexpr int32_t kRows = 2049 + 64;
  const CudaMatrix matrix = RandomMatrix(8, 16);
  const DeviceArray<Bf16> input = OnDevice(RandomBf16(size_t{kRows} * 16));
  const std::vector<float> few = Product(InvariantKernel::kFewRows, matrix, input, 0, kRows);
  EXPECT_THAT(few, testing::Not(testing::Contains(
                       testing::Not(testing::Truly([](float x) { return std::isfinite(x); })))));
  EXPECT_EQ(Product(InvariantKernel::kSmallTiles, matrix, input, 0, kRows), few);
  EXPECT_EQ(Product(InvariantKernel::kLargeTiles, matrix, input, 0, kRows), few);
}

// What lies behind the last input of an output or of a row is the next one's first, and may not be
// multiplied, not even by zero.
TEST_F(InvariantLinearTest, NumbersThatAreNotFiniteShowInTheirOwnOutputAndRowAlone) {
  constexpr int32_t kN = 24;
  constexpr int32_t kK = 72;
  constexpr int32_t kRows = 4;
  constexpr Bf16 kNan = {0x7fc0};
  std::vector<Bf16> weights = RandomBf16(size_t{kN} * kK);
  std::vector<Bf16> numbers = RandomBf16(size_t{kRows} * kK);
  weights[17 * kK] = kNan;
  numbers[2 * kK] = kNan;
  const CudaMatrix matrix = Matrix(weights, kN, kK);
  const DeviceArray<Bf16> input = OnDevice(numbers);
  for (const InvariantKernel kernel : kKernels) {
    const std::vector<float> found = Product(kernel, matrix, input, 0, kRows);
    for (int32_t i = 0; i < kRows * kN; ++i) {
      EXPECT_EQ(std::isnan(found[i]), i % kN == 17 || i / kN == 2) << "at " << i;
    }
  }
}

TEST_F(InvariantLinearTest, TilesAreSmallWhereLargeOnesWouldLeaveTheDeviceIdle) {
  const CudaDeviceInfo device = {.multiprocessors = 132};
  EXPECT_EQ(InvariantKernelFor(device, 1, 4096), InvariantKernel::kFewRows);
  EXPECT_EQ(InvariantKernelFor(device, 32, 128256), InvariantKernel::kFewRows);
  EXPECT_EQ(InvariantKernelFor(device, 33, 4096), InvariantKernel::kSmallTiles);
  EXPECT_EQ(InvariantKernelFor(device, 65, 128256), InvariantKernel::kLargeTiles);
  EXPECT_EQ(InvariantKernelFor(device, 512, 4096), InvariantKernel::kSmallTiles);  // 4 by 32
  EXPECT_EQ(InvariantKernelFor(device, 513, 4096), InvariantKernel::kLargeTiles);
}

// Whatever the library would choose for a number of rows, and whatever was tuned.
TEST_F(InvariantLinearTest, LinearTakesTheseKernelsForAllRowsWhereItIsToBeInvariant) {
  constexpr int32_t kN = 40;
  constexpr int32_t kK = 264;
  constexpr int32_t kRows = 90;
  CudaMatrix matrix = RandomMatrix(kN, kK);
  BATON_CHECK_OK(matrix.SetBias(context(), Random(kN)));
  const DeviceArray<Bf16> input = OnDevice(RandomBf16(size_t{kRows} * kK));
  const std::vector<float> all = Product(InvariantKernel::kFewRows, matrix, input, 0, kRows);
  CudaLinear linear(context(), {.batch_invariant = true});
  const int32_t tuned[] = {1, kRows};
  ASSERT_TRUE(linear.Reserve(matrix, kRows).ok());
  ASSERT_TRUE(linear.TunePlans(matrix, CudaEpilogue::kStoreF32, tuned).ok());
  EXPECT_EQ(linear.scratch_bytes(), 0);
  for (const int32_t rows : {0, 1, 7, 32, 33, kRows}) {
    DeviceArray<float> output = OnDevice<float>(static_cast<size_t>(rows) * kN);
    linear.Run({.input = input.data(),
                .weights = &matrix,
                .epilogue = CudaEpilogue::kStoreF32,
                .output = output.data(),
                .rows = rows});
    const std::vector<float> found = OnHost(output);
    EXPECT_TRUE(found.empty() || std::memcmp(found.data(), all.data(), found.size() * 4) == 0)
        << rows << " rows";
  }
}

}  // namespace
}  // namespace baton
