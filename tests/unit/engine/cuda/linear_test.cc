#include "engine/kernels/cuda/linear.h"

#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {
namespace {

struct Shape {
  int32_t n;
  int32_t k;
  int32_t rows;
};

class CudaLinearTest : public CudaTest {
 protected:
  CudaMatrix Matrix(const std::vector<Bf16>& weights, int32_t n, int32_t k) {
    absl::StatusOr<CudaMatrix> matrix = CudaMatrix::Create(n, k);
    BATON_CHECK(matrix.ok()) << matrix.status();
    Upload(context(), weights, &matrix->weights());
    return *std::move(matrix);
  }

  // Runs one product of random numbers, and compares.
  void ExpectProduct(CudaLinear& linear, const Shape& shape, CudaEpilogue epilogue, bool biased) {
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
  for (const Shape& shape :
       {Shape{8, 8, 1}, Shape{24, 40, 3}, Shape{136, 72, 17}, Shape{64, 256, 65}}) {
    for (const CudaEpilogue epilogue :
         {CudaEpilogue::kStoreBf16, CudaEpilogue::kStoreF32, CudaEpilogue::kAddToF32}) {
      for (const bool biased : {false, true}) ExpectProduct(linear, shape, epilogue, biased);
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
  for (const CudaEpilogue epilogue :
       {CudaEpilogue::kStoreBf16, CudaEpilogue::kStoreF32, CudaEpilogue::kAddToF32}) {
    ASSERT_TRUE(linear.TunePlans(matrix, epilogue, rows).ok());
    for (const int32_t tuned : rows) ExpectProduct(linear, {48, 64, tuned}, epilogue, false);
  }
}

TEST_F(CudaLinearTest, BucketsHoldTheirRows) {
  const std::vector<std::pair<int32_t, int32_t>> buckets = {
      {1, 1},   {2, 2},   {3, 4},     {5, 8},       {16, 16},     {17, 24},
      {24, 24}, {25, 32}, {100, 128}, {4097, 6144}, {6145, 8192}, {8192, 8192}};
  for (const auto& [rows, bucket] : buckets) EXPECT_EQ(CudaLinear::RowsBucket(rows), bucket);
}

TEST_F(CudaLinearTest, SizesMustBeMultiplesOfEight) {
  EXPECT_EQ(CudaMatrix::Create(12, 64).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CudaMatrix::Create(64, 0).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace baton
