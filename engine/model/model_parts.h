// What loading a model takes on any backend: where its parts are, its configuration, its weights'
// source, and what is told of it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/kernel_table.h"
#include "engine/model/model.h"
#include "engine/model/model_config.h"
#include "engine/model/weight_source.h"

namespace baton {

// Where the parts of a model come from.
struct ModelPaths {
  std::string directory;  // of weights; empty for random ones
  std::string config_path;
  std::string generation_config_path;  // may not exist
  std::string default_name;
};
ModelPaths FindPaths(const ModelOptions& options);

// Errors name file and field.
absl::StatusOr<ModelConfig> LoadConfig(const ModelPaths& paths);
absl::StatusOr<std::unique_ptr<WeightSource>> OpenWeights(const ModelPaths& paths,
                                                          const ModelConfig& config);

// What ModelOptions::weights asks for. INVALID_ARGUMENT: an unknown word.
absl::StatusOr<WeightElement> WeightElementOf(const ModelOptions& options);
// In memory, with its part of a group's scale.
double BytesOfWeight(WeightElement element);

// Of all its matrices; what norms and biases add is not worth counting.
int64_t CountMatrixNumbers(const ModelConfig& config);

// INVALID_ARGUMENT: not a power of two, or out of bounds.
absl::Status CheckBlockSize(int32_t block_size);

// All but what follows from the backend, its dtypes and its weights: weight_dtype, num_parameters,
// weight_bytes, fingerprint, kernels.
ModelInfo MakeModelInfo(const ModelOptions& options, const ModelPaths& paths,
                        const ModelConfig& config);

}  // namespace baton
