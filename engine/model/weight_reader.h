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
#include "engine/model/matrix_shape.h"
#include "engine/model/model_config.h"
#include "engine/model/packed_cache.h"
#include "engine/model/packed_file.h"
#include "engine/model/weight_loader.h"
#include "engine/model/weight_source.h"

namespace baton {

// How the matrices are laid out.
struct WeightFormats {
  PackFormat matrices;
  PackFormat logits;
  PackFormat embedding;  // that of the logits when tied
  const PackFormat& Of(MatrixUse use) const;
  std::string Describe() const;
};
// `element`: what is asked for, see ElementFor.
WeightFormats FormatsOf(const ModelConfig& config, WeightElement element,
                        const KernelTable& kernels);

using PackedWeightReader = WeightReader<std::vector<float>, PackedMatrix>;

// Packs the tensors of a source, on the pool.
class PackingReader final : public PackedWeightReader {
 public:
  PackingReader(WeightSource* source, const WeightFormats& formats, ComputePool* pool)
      : source_(*source), formats_(formats), pool_(*pool) {}

  absl::StatusOr<std::vector<float>> Vector(const std::string& name, WeightRole role,
                                            int64_t size) override;
  absl::StatusOr<PackedMatrix> Matrix(const MatrixShape& shape, MatrixUse use) override;
  absl::Status Finish() override { return source_.CheckAllUsed(); }
  // All that was read so far. Views of what was returned, which may have moved but must live.
  const std::vector<PackedSection>& sections() const { return sections_; }

 private:
  template <typename T>
  void Pack(const MatrixShape& shape, const std::vector<WeightTensor>& tensors,
            PackedMatrix* matrix);

  WeightSource& source_;
  const WeightFormats formats_;
  ComputePool& pool_;
  std::vector<PackedSection> sections_;
};

// Takes the sections that a PackingReader has made; the matrices point into the cache.
class CacheReader final : public PackedWeightReader {
 public:
  CacheReader(const PackedCache* cache, const WeightFormats& formats)
      : cache_(*cache), formats_(formats) {}

  absl::StatusOr<std::vector<float>> Vector(const std::string& name, WeightRole role,
                                            int64_t size) override;
  absl::StatusOr<PackedMatrix> Matrix(const MatrixShape& shape, MatrixUse use) override;
  absl::Status Finish() override { return absl::OkStatus(); }

 private:
  const PackedCache& cache_;
  const WeightFormats formats_;
};

}  // namespace baton
