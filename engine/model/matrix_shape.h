// Matrices that several tensors of a model make up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model_shard.h"
#include "engine/model/weight_source.h"

namespace baton {

// How the rows of several tensors make up one matrix.
enum class PartOrder {
  kStacked,      // all of the first, then all of the second …
  kAlternating,  // the first row of each, then the second of each …: all have as many
};

// A matrix that several tensors share.
struct MatrixShape {
  struct Part {
    std::string name;  // without ".weight" or ".bias"
    int32_t rows = 0;  // of the tensor
    ShardRange taken;  // of the rows
  };
  std::vector<Part> parts;
  PartOrder order = PartOrder::kStacked;
  int32_t columns = 0;       // of the tensors
  ShardRange taken_columns;  // of those
  bool bias = false;
  bool bias_elsewhere = false;  // another rank adds it: there is one, of zeros here
  int64_t Rows() const;         // of the matrix
  // Where a row of the matrix comes from.
  struct Place {
    size_t part = 0;
    int64_t row = 0;  // of the tensor
  };
  Place PlaceOf(int64_t row) const;
};

// The tensors of a matrix. Views of their source.
struct MatrixTensors {
  std::vector<WeightTensor> weights;  // of the parts
  std::vector<float> bias;            // [Rows()]; empty: none
};
// Asks `source` for all of them, in the order of the parts.
absl::StatusOr<MatrixTensors> OpenTensors(const MatrixShape& shape, WeightSource& source);

// [size], f32
absl::StatusOr<std::vector<float>> ReadVector(const std::string& name, WeightRole role,
                                              int64_t size, WeightSource& source);

}  // namespace baton
