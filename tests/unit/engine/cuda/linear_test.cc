#include "engine/kernels/cuda/linear.h"

#include <algorithm>

#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/compute_pool.h"
#include "engine/kernels/linear.h"
#include "tests/unit/engine/cuda/product_harness.h"

namespace baton {
namespace {

class CudaLinearTest : public ProductTest {
 protected:
  // Runs one product of random numbers, and compares.
  void ExpectProduct(CudaLinear& linear, const ProductShape& shape, CudaEpilogue epilogue,
                     bool biased) {
    const std::vector<Bf16> weights = RandomBf16(static_cast<size_t>(shape.n) * shape.k);
    const std::vector<Bf16> input = RandomBf16(static_cast<size_t>(shape.rows) * shape.k);
    const std::vector<float> bias =
        biased ? Random(static_cast<size_t>(shape.n)) : std::vector<float>();
    const std::vector<float> before = Random(static_cast<size_t>(shape.rows) * shape.n);
    CudaMatrix matrix = Matrix(weights, shape.n, shape.k);
    if (biased) BATON_CHECK_OK(matrix.SetBias(context(), bias));
    const DeviceArray<Bf16> device_input = OnDevice(input);
    DeviceArray<float> f32_output = OnDevice(before);
    DeviceArray<Bf16> bf16_output = OnDevice<Bf16>(before.size());
    const bool bf16 = epilogue == CudaEpilogue::kStoreBf16;
    linear.Run({.input = device_input.data(),
                .weights = &matrix,
                .epilogue = epilogue,
                .output = bf16 ? static_cast<void*>(bf16_output.data()) : f32_output.data(),
                .rows = shape.rows});
    const std::vector<float> f32 = OnHost(f32_output);
    const std::vector<Bf16> rounded = OnHost(bf16_output);
    for (int32_t row = 0; row < shape.rows; ++row) {
      for (int32_t i = 0; i < shape.n; ++i) {
        const size_t at = static_cast<size_t>(row) * shape.n + i;
        double exact = epilogue == CudaEpilogue::kAddToF32 ? before[at] : 0.0;
        if (biased) exact += bf16 ? ToFloat(ToBf16(bias[i])) : bias[i];
        for (int32_t j = 0; j < shape.k; ++j) {
          exact += double{ToFloat(input[int64_t{row} * shape.k + j])} *
                   ToFloat(weights[int64_t{i} * shape.k + j]);
        }
        ASSERT_NEAR(bf16 ? ToFloat(rounded[at]) : f32[at], exact,
                    (bf16 ? Bf16Tolerance(exact) : 0.0) + 1e-5 * shape.k)
            << shape.n << " " << shape.k << " " << shape.rows << " at " << row << " " << i;
      }
    }
  }
};

TEST_F(CudaLinearTest, MultipliesAsTheNaiveProduct) {
  CudaLinear linear(context());
  for (const ProductShape& shape : {ProductShape{8, 8, 1}, ProductShape{24, 40, 3},
                                    ProductShape{136, 72, 17}, ProductShape{64, 256, 65}}) {
    for (const CudaEpilogue epilogue : kEpilogues) {
      for (const bool biased : {false, true}) ExpectProduct(linear, shape, epilogue, biased);
    }
  }
}

// Both products of a gated feed-forward layer's first half, and what follows them.
TEST_F(CudaLinearTest, AgreesWithTheCpu) {
  constexpr int32_t kN = 272;
  constexpr int32_t kK = 96;
  constexpr int32_t kRows = 5;
  const std::vector<Bf16> weights = RandomBf16(size_t{kN} * kK, 0.1f);
  const std::vector<Bf16> input = RandomBf16(size_t{kRows} * kK);

  const KernelTable& table = GetKernels(Isa::kAvx2, /*f32=*/true);
  const int32_t width = table.pack.panel_columns;
  std::vector<float> wide(weights.size());
  std::ranges::transform(weights, wide.begin(), [](Bf16 x) { return ToFloat(x); });
  std::vector<float> wide_input(input.size());
  std::ranges::transform(input, wide_input.begin(), [](Bf16 x) { return ToFloat(x); });
  PackedMatrix packed(kN, kK, table.PackOf(WeightElement::kF32));
  for (int32_t panel = 0; panel < packed.num_panels(); ++panel) {
    std::vector<const float*> rows;
    for (int32_t i = panel * width; i < std::min(kN, (panel + 1) * width); ++i) {
      rows.push_back(wide.data() + int64_t{i} * kK);
    }
    packed.PackPanel(panel, rows);
  }
  const std::unique_ptr<ComputePool> pool = *ComputePool::Create(1, {});
  std::vector<float> expected(size_t{kRows} * kN / 2);
  Linear({table, *pool}, {.input = wide_input.data(),
                          .weights = &packed,
                          .epilogue = Epilogue::kSiluMul,
                          .output = expected.data(),
                          .rows = kRows});

  CudaLinear linear(context());
  const CudaMatrix matrix = Matrix(weights, kN, kK);
  const DeviceArray<Bf16> device_input = OnDevice(input);
  DeviceArray<Bf16> pairs = OnDevice<Bf16>(size_t{kRows} * kN);
  DeviceArray<Bf16> output = OnDevice<Bf16>(expected.size());
  linear.Run({.input = device_input.data(),
              .weights = &matrix,
              .epilogue = CudaEpilogue::kSiluMul,
              .output = output.data(),
              .pairs = pairs.data(),
              .rows = kRows});
  const std::vector<Bf16> found = OnHost(output);
  for (size_t i = 0; i < found.size(); ++i) {  // the product was rounded to bf16 in between
    ASSERT_NEAR(ToFloat(found[i]), expected[i], 4 * Bf16Tolerance(expected[i]) + 1e-4) << i;
  }
}

TEST_F(CudaLinearTest, GatedProductsHaveTheBitsOfThoseGatedAfterwards) {
  CudaLinear linear(context());
  for (const ProductShape& shape :
       {ProductShape{8, 8, 1}, ProductShape{40, 136, 12}, ProductShape{64, 256, 65}}) {
    for (const bool biased : {false, true}) {
      CudaMatrix matrix =
          Matrix(RandomBf16(static_cast<size_t>(shape.n) * shape.k), shape.n, shape.k);
      const std::vector<float> bias = Random(static_cast<size_t>(shape.n));
      if (biased) BATON_CHECK_OK(matrix.SetBias(context(), bias));
      ExpectGatedAlike(matrix, shape.rows, [&](const CudaLinearArgs& args) { linear.Run(args); });
    }
  }
}

TEST_F(CudaLinearTest, RowsOfOneBucketShareAPlan) {
  CudaLinear linear(context());
  for (const int32_t rows : {24, 17, 20, 24}) {
    ExpectProduct(linear, {16, 32, rows}, CudaEpilogue::kStoreF32, false);
  }
}

TEST_F(CudaLinearTest, TunedPlansGiveTheSameProduct) {
  CudaLinear linear(context());
  CudaMatrix matrix = Matrix(RandomBf16(size_t{48} * 64), 48, 64);
  const std::vector<int32_t> rows = {1, 5, 30};
  for (const CudaEpilogue epilogue : kEpilogues) {
    ASSERT_TRUE(linear.TunePlans(matrix, epilogue, rows).ok());
    for (const int32_t tuned : rows) ExpectProduct(linear, {48, 64, tuned}, epilogue, false);
  }
}

TEST_F(CudaLinearTest, BucketsHoldTheirRows) {
  const std::vector<std::pair<int32_t, int32_t>> buckets = {
      {1, 1},   {2, 2},   {3, 4},     {5, 8},       {16, 16},     {17, 24},
      {24, 24}, {25, 32}, {100, 128}, {4097, 6144}, {6145, 8192}, {8192, 8192}};
  for (const auto& [rows, bucket] : buckets) EXPECT_EQ(ProductPlans::RowsBucket(rows), bucket);
}

TEST_F(CudaLinearTest, SizesMustBeMultiplesOfEight) {
  EXPECT_EQ(CudaMatrix::Create(12, 64).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CudaMatrix::Create(64, 0).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace baton
