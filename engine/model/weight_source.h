// Where a model's weights come from: a Hugging Face directory, or a random number generator.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/compute_pool.h"
#include "engine/kernels/random_numbers.h"

namespace baton {

enum class WeightDtype { kBf16, kF16, kF32 };
std::string_view WeightDtypeName(WeightDtype dtype);  // "bf16"

// One weight tensor, read a row at a time in any order and by several threads at once. Points into
// its source, which outlives it.
class WeightTensor {
 public:
  static WeightTensor Stored(const std::byte* data, WeightDtype dtype, int64_t columns);
  // The same on every machine for the same seed.
  static WeightTensor Random(const RandomTensor& random, int64_t columns);

  // output[columns], rounded to its type.
  void ReadRow(int64_t row, float* output) const;
  void ReadRow(int64_t row, Bf16* output) const;
  // What to make it of elsewhere; nothing: it is stored.
  const std::optional<RandomTensor>& random() const { return random_; }

 private:
  template <typename T>
  void Read(int64_t row, T* output) const;
  template <typename T>
  void RandomRow(int64_t row, T* output) const;

  std::optional<RandomTensor> random_;
  const std::byte* data_ = nullptr;  // [rows, columns] of dtype_; null: random
  WeightDtype dtype_ = WeightDtype::kBf16;
  int64_t columns_ = 0;
};

// What kind of tensor is asked for: only random weights differ by it.
enum class WeightRole { kMatrix, kNorm, kBias };

// Not thread-safe.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // A matrix [rows, columns]; vectors are one row. NOT_FOUND, or INVALID_ARGUMENT for another shape
  // or a dtype that is not bf16, f16 or f32, naming tensor and file.
  virtual absl::StatusOr<WeightTensor> Get(const std::string& name, WeightRole role, int64_t rows,
                                           int64_t columns) = 0;
  // INVALID_ARGUMENT names a tensor that was never asked for and that the model does not know.
  virtual absl::Status CheckAllUsed() const = 0;
  // Mixed over all tensors in the order in which they were asked for. Reads all their bytes, on the
  // pool.
  virtual uint64_t Fingerprint(ComputePool* pool) const = 0;
  // Lines that differ when any tensor may differ, without reading them: of each file its header,
  // size, inode and times.
  virtual std::string Identity() const = 0;
  virtual std::string dtype_name() const = 0;
};

// model.safetensors, or the shards that model.safetensors.index.json names.
absl::StatusOr<std::unique_ptr<WeightSource>> OpenCheckpoint(const std::string& directory,
                                                             bool tied_embeddings);

// Random weights that keep activations near unit scale.
std::unique_ptr<WeightSource> MakeDummyWeights(uint64_t seed);

}  // namespace baton
