#include "engine/model/matrix_shape.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

// One number for each row of the matrix.
std::vector<float> InOrder(const MatrixShape& shape, const std::vector<std::vector<float>>& parts) {
  std::vector<float> values;
  for (int64_t row = 0; row < shape.Rows(); ++row) {
    const MatrixShape::Place place = shape.PlaceOf(row);
    values.push_back(parts[place.part][static_cast<size_t>(place.row)]);
  }
  return values;
}

}  // namespace

int64_t MatrixShape::Rows() const {
  int64_t rows = 0;
  for (const Part& part : parts) rows += part.taken.count();
  return rows;
}

MatrixShape::Place MatrixShape::PlaceOf(int64_t row) const {
  if (order == PartOrder::kAlternating) {
    const auto count = static_cast<int64_t>(parts.size());
    const auto part = static_cast<size_t>(row % count);
    return {.part = part, .row = parts[part].taken.begin + row / count};
  }
  size_t part = 0;
  while (row >= parts[part].taken.count()) row -= parts[part++].taken.count();
  return {.part = part, .row = parts[part].taken.begin + row};
}

absl::StatusOr<MatrixTensors> OpenTensors(const MatrixShape& shape, WeightSource& source) {
  MatrixTensors tensors;
  std::vector<std::vector<float>> biases;  // of the parts
  for (const MatrixShape::Part& part : shape.parts) {
    BATON_CHECK(shape.order == PartOrder::kStacked ||
                part.taken.count() == shape.parts[0].taken.count())
        << part.taken.count() << " rows of " << part.name;
    ASSIGN_OR_RETURN(const WeightTensor tensor,
                     source.Get(absl::StrCat(part.name, ".weight"), WeightRole::kMatrix, part.rows,
                                shape.columns));
    tensors.weights.push_back(tensor);
    if (!shape.bias) continue;
    ASSIGN_OR_RETURN(std::vector<float> values, ReadVector(absl::StrCat(part.name, ".bias"),
                                                           WeightRole::kBias, part.rows, source));
    biases.push_back(std::move(values));
  }
  if (!shape.bias) return tensors;
  if (shape.bias_elsewhere) {
    tensors.bias.resize(static_cast<size_t>(shape.Rows()));
  } else {
    tensors.bias = InOrder(shape, biases);
  }
  return tensors;
}

absl::StatusOr<std::vector<float>> ReadVector(const std::string& name, WeightRole role,
                                              int64_t size, WeightSource& source) {
  ASSIGN_OR_RETURN(const WeightTensor tensor, source.Get(name, role, 1, size));
  std::vector<float> values(static_cast<size_t>(size));
  tensor.ReadRow(0, values.data());
  return values;
}

}  // namespace baton
