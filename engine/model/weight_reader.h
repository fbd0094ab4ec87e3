// How a model's weights come into memory, packed: out of a source's tensors, or as they were packed
// before.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/kernel_table.h"
#include "engine/kernels/linear.h"
#include "engine/model/model_shard.h"
#include "engine/model/packed_cache.h"
#include "engine/model/packed_file.h"
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
  int64_t Rows() const;  // of the matrix
  // Where a row of the matrix comes from.
  struct Place {
    size_t part = 0;
    int64_t row = 0;  // of the tensor
  };
  Place PlaceOf(int64_t row) const;
};

// Not thread-safe.
class WeightReader {
 public:
  virtual ~WeightReader() = default;
  virtual absl::StatusOr<std::vector<float>> Vector(const std::string& name, WeightRole role,
                                                    int64_t size) = 0;
  virtual absl::StatusOr<PackedMatrix> Matrix(const MatrixShape& shape,
                                              const PackFormat& format) = 0;
  // After all of them.
  virtual absl::Status Finish() = 0;
  virtual int64_t total_bytes() const = 0;  // for progress; 0 when not known
};

// Packs the tensors of a source, on the pool.
class PackingReader final : public WeightReader {
 public:
  PackingReader(WeightSource* source, ComputePool* pool) : source_(*source), pool_(*pool) {}

  absl::StatusOr<std::vector<float>> Vector(const std::string& name, WeightRole role,
                                            int64_t size) override;
  absl::StatusOr<PackedMatrix> Matrix(const MatrixShape& shape, const PackFormat& format) override;
  absl::Status Finish() override { return source_.CheckAllUsed(); }
  int64_t total_bytes() const override { return source_.total_bytes(); }
  // All that was read so far. Views of what was returned, which may have moved but must live.
  const std::vector<PackedSection>& sections() const { return sections_; }

 private:
  absl::StatusOr<std::vector<float>> ReadVector(const std::string& name, WeightRole role,
                                                int64_t size);
  template <typename T>
  void Pack(const MatrixShape& shape, const std::vector<WeightTensor>& tensors,
            PackedMatrix* matrix);

  WeightSource& source_;
  ComputePool& pool_;
  std::vector<PackedSection> sections_;
};

// Takes the sections that a PackingReader has made; the matrices point into the cache.
class CacheReader final : public WeightReader {
 public:
  explicit CacheReader(const PackedCache* cache) : cache_(*cache) {}

  absl::StatusOr<std::vector<float>> Vector(const std::string& name, WeightRole role,
                                            int64_t size) override;
  absl::StatusOr<PackedMatrix> Matrix(const MatrixShape& shape, const PackFormat& format) override;
  absl::Status Finish() override { return absl::OkStatus(); }
  int64_t total_bytes() const override { return cache_.total_bytes(); }

 private:
  const PackedCache& cache_;
};

}  // namespace baton
