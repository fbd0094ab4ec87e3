#include "engine/model/weight_reader.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

// A matrix's section is called by its first tensor.
std::string WeightSection(const MatrixShape& shape) {
  return absl::StrCat(shape.parts.front().name, ".weight");
}
std::string BiasSection(const MatrixShape& shape) {
  return absl::StrCat(shape.parts.front().name, ".bias");
}

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

absl::StatusOr<std::vector<float>> PackingReader::ReadVector(const std::string& name,
                                                             WeightRole role, int64_t size) {
  ASSIGN_OR_RETURN(const WeightTensor tensor, source_.Get(name, role, 1, size));
  std::vector<float> values(static_cast<size_t>(size));
  tensor.ReadRow(0, values.data());
  return values;
}

absl::StatusOr<std::vector<float>> PackingReader::Vector(const std::string& name, WeightRole role,
                                                         int64_t size) {
  ASSIGN_OR_RETURN(std::vector<float> values, ReadVector(name, role, size));
  sections_.push_back({.name = name, .data = std::as_bytes(std::span(values))});
  return values;
}

absl::StatusOr<PackedMatrix> PackingReader::Matrix(const MatrixShape& shape,
                                                   const PackFormat& format) {
  std::vector<WeightTensor> tensors;
  std::vector<std::vector<float>> biases;  // of the parts
  for (const MatrixShape::Part& part : shape.parts) {
    BATON_CHECK(shape.order == PartOrder::kStacked ||
                part.taken.count() == shape.parts[0].taken.count())
        << part.taken.count() << " rows of " << part.name;
    ASSIGN_OR_RETURN(const WeightTensor tensor,
                     source_.Get(absl::StrCat(part.name, ".weight"), WeightRole::kMatrix, part.rows,
                                 shape.columns));
    tensors.push_back(tensor);
    if (!shape.bias) continue;
    ASSIGN_OR_RETURN(std::vector<float> values,
                     ReadVector(absl::StrCat(part.name, ".bias"), WeightRole::kBias, part.rows));
    biases.push_back(std::move(values));
  }
  PackedMatrix matrix(static_cast<int32_t>(shape.Rows()), shape.taken_columns.count(), format);
  if (format.element == WeightElement::kBf16) {
    Pack<Bf16>(shape, tensors, &matrix);
  } else {
    Pack<float>(shape, tensors, &matrix);
  }
  sections_.push_back({.name = WeightSection(shape), .data = matrix.data()});
  if (shape.bias) {
    matrix.SetBias(InOrder(shape, biases));
    const auto count = static_cast<size_t>(matrix.n());
    sections_.push_back(
        {.name = BiasSection(shape), .data = std::as_bytes(std::span(matrix.bias(), count))});
  }
  return matrix;
}

template <typename T>
void PackingReader::Pack(const MatrixShape& shape, const std::vector<WeightTensor>& tensors,
                         PackedMatrix* matrix) {
  const int32_t width = matrix->format().panel_columns;
  const auto columns = static_cast<size_t>(shape.columns);
  pool_.ReserveScratch(static_cast<size_t>(width) * columns * sizeof(T));
  pool_.Run(matrix->num_panels(), [&](int32_t panel, int32_t thread) {
    T* scratch = reinterpret_cast<T*>(pool_.Scratch(thread));
    std::vector<const T*> rows;  // of this panel
    const int64_t end = std::min<int64_t>(matrix->n(), int64_t{panel + 1} * width);
    for (int64_t row = int64_t{panel} * width; row < end; ++row) {
      T* target = scratch + rows.size() * columns;
      const MatrixShape::Place place = shape.PlaceOf(row);
      tensors[place.part].ReadRow(place.row, target);
      rows.push_back(target + shape.taken_columns.begin);
    }
    matrix->PackPanel(panel, rows);
  });
}

absl::StatusOr<std::vector<float>> CacheReader::Vector(const std::string& name, WeightRole /*role*/,
                                                       int64_t size) {
  std::vector<float> values(static_cast<size_t>(size));
  const std::span<std::byte> target = std::as_writable_bytes(std::span(values));
  ASSIGN_OR_RETURN(const auto data, cache_.Find(name, target.size()));
  std::memcpy(target.data(), data.data(), target.size());
  return values;
}

absl::StatusOr<PackedMatrix> CacheReader::Matrix(const MatrixShape& shape,
                                                 const PackFormat& format) {
  const int64_t rows = shape.Rows();
  const auto n = static_cast<int32_t>(rows);
  const int32_t k = shape.taken_columns.count();
  ASSIGN_OR_RETURN(const auto data,
                   cache_.Find(WeightSection(shape), PackedMatrix::BytesOf(n, k, format)));
  PackedMatrix matrix(n, k, format, data);
  if (shape.bias) {
    ASSIGN_OR_RETURN(std::vector<float> biases, Vector(BiasSection(shape), WeightRole::kBias, n));
    matrix.SetBias(std::move(biases));
  }
  return matrix;
}

}  // namespace baton
