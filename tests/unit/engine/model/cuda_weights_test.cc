// Matrices arrive on the device as their tensors make them up: stored and quantized ones whatever
// the size of the staging, random bf16 ones without.
#include "engine/model/cuda/cuda_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <string>

#include "engine/kernels/cuda/dequantize.h"
#include "engine/kernels/cuda/fp8.h"
#include "engine/kernels/cuda/quantized_weights.h"
#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {
namespace {

class CudaWeightsTest : public CudaTest {
 protected:
  // The numbers that the weights stand for.
  std::vector<float> NumbersOf(const CudaMatrix& matrix) {
    const auto n = static_cast<size_t>(matrix.n());
    const auto k = static_cast<size_t>(matrix.k());
    if (matrix.element() == WeightElement::kFp8) {
      const std::vector<std::byte> codes = OnHost(matrix.packed());
      const std::vector<float> scales = OnHost(matrix.scales());
      std::vector<float> numbers(codes.size());
      for (size_t i = 0; i < codes.size(); ++i) {
        numbers[i] = scales[i / k] * FromE4m3(std::to_integer<uint8_t>(codes[i]));
      }
      return numbers;
    }
    std::vector<TokenId> rows(n);
    std::iota(rows.begin(), rows.end(), 0);
    const DeviceArray<TokenId> device_rows = OnDevice(rows);
    DeviceArray<float> numbers = OnDevice<float>(n * k);
    QuantizedEmbedding(context(), {.table = &matrix,
                                   .tokens = device_rows.data(),
                                   .output = numbers.data(),
                                   .rows = matrix.n()});
    return OnHost(numbers);
  }
};

constexpr int32_t kPartRows = 40;

// Of which the last rows but a few are taken.
MatrixShape TwoParts(PartOrder order, int32_t columns) {
  return {.parts = {{"gate", kPartRows + 3, {3, kPartRows + 3}},
                    {"up", kPartRows + 3, {3, kPartRows + 3}}},
          .order = order,
          .columns = columns,
          .taken_columns = {0, columns},
          .bias = true};
}

std::vector<Bf16> OnTheHost(const MatrixShape& shape, const MatrixTensors& tensors) {
  std::vector<Bf16> numbers(static_cast<size_t>(shape.Rows() * shape.columns));
  for (int64_t row = 0; row < shape.Rows(); ++row) {
    const MatrixShape::Place place = shape.PlaceOf(row);
    tensors.weights[place.part].ReadRow(place.row, numbers.data() + row * shape.columns);
  }
  return numbers;
}

// Dummy weights as if they came from a file.
class StoredWeights final : public WeightSource {
 public:
  absl::StatusOr<WeightTensor> Get(const std::string& name, WeightRole role, int64_t rows,
                                   int64_t columns) override {
    const WeightTensor tensor = *dummy_->Get(name, role, rows, columns);
    std::vector<Bf16>& numbers = numbers_[name];
    numbers.resize(static_cast<size_t>(rows * columns));
    for (int64_t row = 0; row < rows; ++row) tensor.ReadRow(row, numbers.data() + row * columns);
    return WeightTensor::Stored(reinterpret_cast<const std::byte*>(numbers.data()),
                                WeightDtype::kBf16, columns);
  }
  absl::Status CheckAllUsed() const override { return absl::OkStatus(); }
  uint64_t Fingerprint(ComputePool* /*pool*/) const override { return 0; }
  std::string Identity() const override { return ""; }
  std::string dtype_name() const override { return "bf16"; }

 private:
  const std::unique_ptr<WeightSource> dummy_ = MakeDummyWeights(5);
  std::map<std::string, std::vector<Bf16>> numbers_;
};

TEST_F(CudaWeightsTest, RandomMatricesHaveTheBitsOfTheHost) {
  const auto pool = *ComputePool::Create(1, {});
  const std::unique_ptr<WeightSource> source = MakeDummyWeights(5);
  const auto reader = *CudaWeightReader::Create(context(), source.get(), pool.get());
  for (const PartOrder order : {PartOrder::kStacked, PartOrder::kAlternating}) {
    for (const int32_t columns : {8, 40, 1544}) {
      const MatrixShape shape = TwoParts(order, columns);
      const CudaMatrix matrix = *reader->Matrix(shape, MatrixUse::kProjection);
      EXPECT_EQ(OnHost(matrix.weights()), OnTheHost(shape, *OpenTensors(shape, *source)))
          << columns;
    }
  }
}

TEST_F(CudaWeightsTest, RowsArriveInOrderThroughStagingOfAnySize) {
  constexpr int32_t kColumns = 40;
  const auto pool = *ComputePool::Create(2, {});
  for (const PartOrder order : {PartOrder::kStacked, PartOrder::kAlternating}) {
    const MatrixShape shape = TwoParts(order, kColumns);
    StoredWeights source;
    const MatrixTensors tensors = *OpenTensors(shape, source);
    const std::vector<Bf16> expected = OnTheHost(shape, tensors);
    // Less than a row, a few rows, all of it.
    for (const size_t staging_bytes : {size_t{2}, size_t{1000}, CudaWeightReader::kStagingBytes}) {
      const auto reader = *CudaWeightReader::Create(context(), &source, pool.get(),
                                                    WeightElement::kBf16, staging_bytes);
      const CudaMatrix matrix = *reader->Matrix(shape, MatrixUse::kProjection);
      ASSERT_TRUE(context().Synchronize().ok()) << context().status();
      const std::vector<Bf16> weights = OnHost(matrix.weights());
      EXPECT_EQ(std::memcmp(weights.data(), expected.data(), expected.size() * sizeof(Bf16)), 0)
          << staging_bytes;
      std::vector<float> bias(tensors.bias.size());
      ASSERT_EQ(cudaMemcpy(bias.data(), matrix.bias(), bias.size() * sizeof(float),
                           cudaMemcpyDeviceToHost),
                cudaSuccess);
      EXPECT_EQ(bias, tensors.bias);
    }
  }
}

// Of int4 the logits' matrix is int8, and an embedding of its own stays bf16.
TEST_F(CudaWeightsTest, QuantizedTilesArriveThroughStagingOfAnySize) {
  constexpr int32_t kRows = 20, kColumns = 168;
  const auto pool = *ComputePool::Create(2, {});
  const MatrixShape shape = {.parts = {{"gate", kRows, {0, kRows}}, {"up", kRows, {0, kRows}}},
                             .order = PartOrder::kAlternating,
                             .columns = kColumns,
                             .taken_columns = {0, kColumns}};
  const std::unique_ptr<WeightSource> source = MakeDummyWeights(5);
  const MatrixTensors tensors = *OpenTensors(shape, *source);
  std::vector<float> numbers(static_cast<size_t>(2 * kRows * kColumns));
  std::vector<const float*> rows;
  for (int32_t row = 0; row < 2 * kRows; ++row) {
    const MatrixShape::Place place = shape.PlaceOf(row);
    tensors.weights[place.part].ReadRow(place.row, numbers.data() + row * kColumns);
    rows.push_back(numbers.data() + row * kColumns);
  }
  for (const auto& [use, element] : {std::pair{MatrixUse::kProjection, WeightElement::kInt4},
                                     std::pair{MatrixUse::kLogits, WeightElement::kInt8},
                                     std::pair{MatrixUse::kEmbedding, WeightElement::kBf16}}) {
    for (const size_t staging_bytes : {size_t{2}, size_t{9000}, CudaWeightReader::kStagingBytes}) {
      const auto reader = *CudaWeightReader::Create(context(), source.get(), pool.get(),
                                                    WeightElement::kInt4, staging_bytes);
      const CudaMatrix matrix = *reader->Matrix(shape, use);
      ASSERT_TRUE(context().Synchronize().ok()) << context().status();
      ASSERT_EQ(matrix.element(), element);
      if (element == WeightElement::kBf16) continue;
      std::vector<std::byte> expected(matrix.packed().size());
      for (int32_t tile = 0; tile < NumQuantTiles(2 * kRows); ++tile) {
        const int32_t first = tile * kQuantTileOutputs;
        PackQuantizedTile(
            element, std::span(rows).subspan(first, std::min(kQuantTileOutputs, 2 * kRows - first)),
            kColumns, expected.data() + tile * QuantTileBytes(element, kColumns));
      }
      EXPECT_EQ(OnHost(matrix.packed()), expected) << staging_bytes;
    }
  }
}

TEST_F(CudaWeightsTest, RowsOfFp8ArriveWithTheirScalesThroughStagingOfAnySize) {
  constexpr int32_t kRows = 48, kColumns = 80;
  const auto pool = *ComputePool::Create(2, {});
  const MatrixShape shape = {
      .parts = {{"some", kRows, {0, kRows}}}, .columns = kColumns, .taken_columns = {0, kColumns}};
  const std::unique_ptr<WeightSource> source = MakeDummyWeights(5);
  const MatrixTensors tensors = *OpenTensors(shape, *source);
  std::vector<uint8_t> codes(size_t{kRows} * kColumns);
  std::vector<float> scales(kRows);
  for (int32_t row = 0; row < kRows; ++row) {
    std::vector<float> values(kColumns);
    tensors.weights[0].ReadRow(row, values.data());
    scales[row] = RoundRowToE4m3(values, codes.data() + row * kColumns);
  }
  for (const size_t staging_bytes : {size_t{2}, size_t{1000}, CudaWeightReader::kStagingBytes}) {
    const auto reader = *CudaWeightReader::Create(context(), source.get(), pool.get(),
                                                  WeightElement::kFp8, staging_bytes);
    const CudaMatrix matrix = *reader->Matrix(shape, MatrixUse::kProjection);
    ASSERT_TRUE(context().Synchronize().ok()) << context().status();
    const std::vector<std::byte> found = OnHost(matrix.packed());
    EXPECT_EQ(std::memcmp(found.data(), codes.data(), codes.size()), 0) << staging_bytes;
    EXPECT_EQ(OnHost(matrix.scales()), scales) << staging_bytes;
    EXPECT_EQ(reader->Matrix(shape, MatrixUse::kLogits)->element(), WeightElement::kBf16);
  }
}

TEST_F(CudaWeightsTest, SizesThatProductsDoNotTakeAreRefused) {
  const auto pool = *ComputePool::Create(1, {});
  const std::unique_ptr<WeightSource> source = MakeDummyWeights(5);
  const auto reader = *CudaWeightReader::Create(context(), source.get(), pool.get());
  const absl::Status status =
      reader
          ->Matrix({.parts = {{"odd", 12, {0, 12}}}, .columns = 16, .taken_columns = {0, 16}},
                   MatrixUse::kProjection)
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
}

TEST_F(CudaWeightsTest, AShardsRowsAndColumnsArriveAlone) {
  constexpr int32_t kRows = 48, kColumns = 40;
  const ShardRange rows = {16, 32};
  const ShardRange columns = {8, 24};
  const auto pool = *ComputePool::Create(2, {});
  const std::unique_ptr<WeightSource> source = MakeDummyWeights(5);
  const MatrixShape whole = {
      .parts = {{"down", kRows, {0, kRows}}}, .columns = kColumns, .taken_columns = {0, kColumns}};
  const MatrixTensors tensors = *OpenTensors(whole, *source);
  const MatrixShape shape = {
      .parts = {{"down", kRows, rows}}, .columns = kColumns, .taken_columns = columns};
  const auto reader =
      *CudaWeightReader::Create(context(), source.get(), pool.get(), WeightElement::kBf16, 100);
  const CudaMatrix matrix = *reader->Matrix(shape, MatrixUse::kProjection);
  ASSERT_TRUE(context().Synchronize().ok()) << context().status();
  EXPECT_EQ(matrix.n(), rows.count());
  EXPECT_EQ(matrix.k(), columns.count());
  const std::vector<Bf16> found = OnHost(matrix.weights());
  std::vector<Bf16> row(kColumns);
  for (int32_t i = 0; i < rows.count(); ++i) {
    tensors.weights[0].ReadRow(rows.begin + i, row.data());
    EXPECT_EQ(std::memcmp(found.data() + i * columns.count(), row.data() + columns.begin,
                          static_cast<size_t>(columns.count()) * sizeof(Bf16)),
              0)
        << "row " << i;
  }
}

TEST_F(CudaWeightsTest, AShardsColumnsAreRoundedAsThoseOfTheWholeMatrix) {
  constexpr int32_t kRows = 48, kColumns = 320;
  const ShardRange rows = {16, 48};
  const ShardRange columns = {96, 256};  // from within a chunk on, and not as many as fill one
  const auto pool = *ComputePool::Create(2, {});
  const std::unique_ptr<WeightSource> source = MakeDummyWeights(5);
  const auto shape = [&](ShardRange of_rows, ShardRange of_columns) {
    return MatrixShape{
        .parts = {{"down", kRows, of_rows}}, .columns = kColumns, .taken_columns = of_columns};
  };
  for (const WeightElement element :
       {WeightElement::kInt8, WeightElement::kInt4, WeightElement::kFp8}) {
    const auto reader =
        *CudaWeightReader::Create(context(), source.get(), pool.get(), element, 1000);
    const CudaMatrix whole =
        *reader->Matrix(shape({0, kRows}, {0, kColumns}), MatrixUse::kProjection);
    const CudaMatrix part = *reader->Matrix(shape(rows, columns), MatrixUse::kProjection);
    ASSERT_TRUE(context().Synchronize().ok()) << context().status();
    ASSERT_EQ(part.n(), rows.count());
    ASSERT_EQ(part.k(), columns.count());
    const std::vector<float> of_whole = NumbersOf(whole);
    const std::vector<float> of_part = NumbersOf(part);
    for (int32_t i = 0; i < rows.count(); ++i) {
      for (int32_t j = 0; j < columns.count(); ++j) {
        ASSERT_EQ(of_part[i * columns.count() + j],
                  of_whole[(rows.begin + i) * kColumns + columns.begin + j])
            << i << " " << j;
      }
    }
  }
}

}  // namespace
}  // namespace baton
