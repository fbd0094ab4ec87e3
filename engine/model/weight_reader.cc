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

std::string Show(const PackFormat& format) {
  return absl::StrCat("element ", static_cast<int>(format.element), ", panels of ",
                      format.panel_columns, ", lanes ", format.lanes, ", k step ", format.k_step);
}

}  // namespace

const PackFormat& WeightFormats::Of(MatrixUse use) const {
  switch (use) {
    case MatrixUse::kProjection:
      return matrices;
    case MatrixUse::kLogits:
      return logits;
    case MatrixUse::kEmbedding:
      break;
  }
  return embedding;
}

std::string WeightFormats::Describe() const {
  return absl::StrCat("matrices: ", Show(matrices), "\nlogits: ", Show(logits),
                      "\nembedding: ", Show(embedding));
}

WeightFormats FormatsOf(const ModelConfig& config, WeightElement element,
                        const KernelTable& kernels) {
  const auto format = [&](MatrixUse use) {
    return kernels.PackOf(ElementFor(use, element, kernels.pack.element));
  };
  return {.matrices = format(MatrixUse::kProjection),
          .logits = format(MatrixUse::kLogits),
          .embedding = format(config.tied_embeddings ? MatrixUse::kLogits : MatrixUse::kEmbedding)};
}

absl::StatusOr<std::vector<float>> PackingReader::Vector(const std::string& name, WeightRole role,
                                                         int64_t size) {
  ASSIGN_OR_RETURN(std::vector<float> values, ReadVector(name, role, size, source_));
  sections_.push_back({.name = name, .data = std::as_bytes(std::span(values))});
  return values;
}

absl::StatusOr<PackedMatrix> PackingReader::Matrix(const MatrixShape& shape, MatrixUse use) {
  ASSIGN_OR_RETURN(MatrixTensors tensors, OpenTensors(shape, source_));
  const PackFormat& format = formats_.Of(use);
  PackedMatrix matrix(static_cast<int32_t>(shape.Rows()), shape.taken_columns.count(), format);
  if (format.element == WeightElement::kBf16) {
    Pack<Bf16>(shape, tensors.weights, &matrix);
  } else {
    Pack<float>(shape, tensors.weights, &matrix);
  }
  sections_.push_back({.name = WeightSection(shape), .data = matrix.data()});
  if (!shape.bias) return matrix;
  matrix.SetBias(std::move(tensors.bias));
  if (!shape.bias_elsewhere) {
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

absl::StatusOr<PackedMatrix> CacheReader::Matrix(const MatrixShape& shape, MatrixUse use) {
  const PackFormat& format = formats_.Of(use);
  const int64_t rows = shape.Rows();
  const auto n = static_cast<int32_t>(rows);
  const int32_t k = shape.taken_columns.count();
  ASSIGN_OR_RETURN(const auto data,
                   cache_.Find(WeightSection(shape), PackedMatrix::BytesOf(n, k, format)));
  PackedMatrix matrix(n, k, format, data);
  if (shape.bias && shape.bias_elsewhere) {
    matrix.SetBias(std::vector<float>(static_cast<size_t>(n)));
  } else if (shape.bias) {
    ASSIGN_OR_RETURN(std::vector<float> biases, Vector(BiasSection(shape), WeightRole::kBias, n));
    matrix.SetBias(std::move(biases));
  }
  return matrix;
}

}  // namespace baton
