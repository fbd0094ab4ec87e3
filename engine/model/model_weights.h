// A model's weights in memory, packed for the kernels.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/kernels/linear.h"
#include "engine/model/model.h"
#include "engine/model/model_config.h"
#include "engine/model/model_shard.h"
#include "engine/model/packed_cache.h"
#include "engine/model/weight_loader.h"
#include "engine/model/weight_reader.h"
#include "engine/model/weight_source.h"

namespace baton {

using LayerWeights = LayerWeightsOf<std::vector<float>, PackedMatrix>;

struct ModelWeights : ModelWeightsOf<std::vector<float>, PackedMatrix> {
  std::unique_ptr<PackedCache> cache;  // that the matrices point into; null: they own their bytes
};

struct WeightLoad {
  const ModelConfig& config;
  const ModelShard shard;
  const WeightFormats formats;
  ComputePool* pool = nullptr;
  WeightSource* source = nullptr;
  std::string cache_file;  // empty: none
  LoadNoteFn note;         // of the cache file; may be null
};

// Maps the cache file, or reads the shard's part of every tensor of `config` from the source,
// packing on the pool, and then writes the file. Nothing about the file is an error: it is noted.
// `progress` may be null.
absl::StatusOr<ModelWeights> LoadWeights(const WeightLoad& load, const LoadProgressFn& progress);

}  // namespace baton
