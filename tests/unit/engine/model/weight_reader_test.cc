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
  PackingReader reader(source.get(), {.matrices = kernels.pack}, pool.get());
  const PackedMatrix matrix = *reader.Matrix(shape, MatrixUse::kProjection);
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
  constexpr int32_t kRows = 77, kColumns = 34;
  const auto shape = [&](std::vector<MatrixShape::Part> parts, PartOrder order) {
    return MatrixShape{.parts = std::move(parts),
                       .order = order,
                       .columns = kColumns,
                       .taken_columns = {0, kColumns},
                       .bias = true};
  };
  const auto gate = RowsOf(shape({{"gate", kRows, {0, kRows}}}, PartOrder::kStacked));
  const auto up = RowsOf(shape({{"up", kRows, {0, kRows}}}, PartOrder::kStacked));
  ASSERT_NE(gate, up);
  std::vector<std::vector<float>> stacked = gate;
  stacked.insert(stacked.end(), up.begin(), up.end());
  std::vector<std::vector<float>> alternating;
  for (size_t row = 0; row < gate.size(); ++row) {
    alternating.push_back(gate[row]);
    alternating.push_back(up[row]);
  }
  const std::vector<MatrixShape::Part> parts = {{"gate", kRows, {0, kRows}},
                                                {"up", kRows, {0, kRows}}};
  EXPECT_EQ(RowsOf(shape(parts, PartOrder::kStacked)), stacked);
  EXPECT_EQ(RowsOf(shape(parts, PartOrder::kAlternating)), alternating);
}

TEST(WeightReader, TakesPartsOfTensors) {
  constexpr int32_t kRows = 50, kColumns = 40;
  const auto shape = [&](ShardRange rows, ShardRange columns, PartOrder order) {
    return MatrixShape{.parts = {{"gate", kRows, rows}, {"up", kRows, rows}},
                       .order = order,
                       .columns = kColumns,
                       .taken_columns = columns,
                       .bias = true};
  };
  for (const PartOrder order : {PartOrder::kStacked, PartOrder::kAlternating}) {
    const auto whole = RowsOf(shape({0, kRows}, {0, kColumns}, order));
    const auto part = RowsOf(shape({17, 33}, {8, 24}, order));
    ASSERT_EQ(part.size(), 32u);
    for (int32_t i = 0; i < 32; ++i) {
      const int32_t row =
          order == PartOrder::kStacked ? (i / 16) * kRows + 17 + i % 16 : 2 * 17 + i;
      const std::vector<float>& from = whole[static_cast<size_t>(row)];
      std::vector<float> expected(from.begin() + 8, from.begin() + 24);
      expected.insert(expected.end(), from.begin() + kColumns, from.end());  // the bias
      EXPECT_EQ(part[static_cast<size_t>(i)], expected) << "row " << i;
    }
  }
}

TEST(WeightReader, ABiasThatAnotherRankAddsIsZerosAndKeptNowhere) {
  const KernelTable& kernels = GetKernels(*BestIsa(), /*f32=*/true);
  const std::unique_ptr<WeightSource> source = MakeDummyWeights(5);
  const auto pool = *ComputePool::Create(1, {});
  PackingReader reader(source.get(), {.matrices = kernels.pack}, pool.get());
  const PackedMatrix matrix = *reader.Matrix({.parts = {{"down", 16, {0, 16}}},
                                              .columns = 8,
                                              .taken_columns = {4, 8},
                                              .bias = true,
                                              .bias_elsewhere = true},
                                             MatrixUse::kProjection);
  ASSERT_NE(matrix.bias(), nullptr);
  for (int32_t row = 0; row < matrix.n(); ++row) EXPECT_EQ(matrix.bias()[row], 0.0f);
  ASSERT_EQ(reader.sections().size(), 1u);
  EXPECT_EQ(reader.sections()[0].name, "down.weight");
}

}  // namespace
}  // namespace baton
