// The order in which tensors become one matrix.
#include "engine/model/weight_reader.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "engine/kernels/isa.h"

namespace baton {
namespace {

// Of each row of the matrix: its weights, then its bias.
std::vector<std::vector<float>> RowsOf(const MatrixShape& shape) {
  const KernelTable& kernels = GetKernels(*BestIsa(), /*f32=*/true);
  const std::unique_ptr<WeightSource> source = MakeDummyWeights(5);
  const auto pool = *ComputePool::Create(2, {});
  PackingReader reader(source.get(), pool.get());
  const PackedMatrix matrix = *reader.Matrix(shape, kernels.pack);
  std::vector<std::vector<float>> rows(static_cast<size_t>(matrix.n()));
  for (int32_t row = 0; row < matrix.n(); ++row) {
    std::vector<float>& values = rows[static_cast<size_t>(row)];
    values.resize(static_cast<size_t>(matrix.k()));
    matrix.UnpackRow(row, values.data());
    values.push_back(matrix.bias()[row]);
  }
  return rows;
}

TEST(WeightReader, PartsAreStackedOrAlternate) {
  constexpr int64_t kRows = 77, kColumns = 34;
  const auto shape = [&](std::vector<MatrixShape::Part> parts, PartOrder order) {
    return MatrixShape{
        .parts = std::move(parts), .order = order, .columns = kColumns, .bias = true};
  };
  const auto gate = RowsOf(shape({{"gate", kRows}}, PartOrder::kStacked));
  const auto up = RowsOf(shape({{"up", kRows}}, PartOrder::kStacked));
  ASSERT_NE(gate, up);
  std::vector<std::vector<float>> stacked = gate;
  stacked.insert(stacked.end(), up.begin(), up.end());
  std::vector<std::vector<float>> alternating;
  for (size_t row = 0; row < gate.size(); ++row) {
    alternating.push_back(gate[row]);
    alternating.push_back(up[row]);
  }
  const std::vector<MatrixShape::Part> parts = {{"gate", kRows}, {"up", kRows}};
  EXPECT_EQ(RowsOf(shape(parts, PartOrder::kStacked)), stacked);
  EXPECT_EQ(RowsOf(shape(parts, PartOrder::kAlternating)), alternating);
}

}  // namespace
}  // namespace baton
