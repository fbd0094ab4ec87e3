// Matrices arrive on the device as their tensors make them up, whatever the size of the staging.
#include "engine/model/cuda/cuda_weights.h"

#include <gtest/gtest.h>

#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {
namespace {

class CudaWeightsTest : public CudaTest {};

TEST_F(CudaWeightsTest, RowsArriveInOrderThroughStagingOfAnySize) {
  constexpr int32_t kRows = 40, kColumns = 40;
  const auto pool = *ComputePool::Create(2, {});
  for (const PartOrder order : {PartOrder::kStacked, PartOrder::kAlternating}) {
    const MatrixShape shape = {.parts = {{"gate", kRows, {0, kRows}}, {"up", kRows, {0, kRows}}},
                               .order = order,
                               .columns = kColumns,
                               .taken_columns = {0, kColumns},
                               .bias = true};
    const std::unique_ptr<WeightSource> source = MakeDummyWeights(5);
    const MatrixTensors tensors = *OpenTensors(shape, *source);
    std::vector<Bf16> expected(static_cast<size_t>(2 * kRows * kColumns));
    for (int32_t row = 0; row < 2 * kRows; ++row) {
      const MatrixShape::Place place = shape.PlaceOf(row);
      tensors.weights[place.part].ReadRow(place.row, expected.data() + row * kColumns);
    }
    // Less than a row, a few rows, all of it.
    for (const size_t staging_bytes : {size_t{2}, size_t{1000}, CudaWeightReader::kStagingBytes}) {
      const auto reader =
          *CudaWeightReader::Create(context(), source.get(), pool.get(), staging_bytes);
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

}  // namespace
}  // namespace baton
