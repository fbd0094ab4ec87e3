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
#include "engine/model/weight_source.h"

namespace baton {

// Sizes are of all of a model; a shard has its part of them, see ModelShard.
struct LayerWeights {
  std::vector<float> attention_norm;  // [hidden]
  PackedMatrix qkv;                   // [q + k + v, hidden]
  std::vector<float> q_norm;          // [head_dim], empty without qk_norm
  std::vector<float> k_norm;          // [head_dim], empty without qk_norm
  PackedMatrix output;                // [hidden, q]
  std::vector<float> mlp_norm;        // [hidden]
  PackedMatrix gate_up;               // [intermediate, 2 (gate, up), hidden]: Epilogue::kSiluMul
  PackedMatrix down;                  // [hidden, intermediate]
};

struct ModelWeights {
  std::unique_ptr<PackedCache> cache;  // that the matrices point into; null: they own their bytes
  PackedMatrix embedding;  // [vocab, hidden]; empty when tied: then `logits` is the table
  std::vector<LayerWeights> layers;
  std::vector<float> final_norm;  // [hidden]
  PackedMatrix logits;            // [vocab, hidden]
  int64_t num_parameters = 0;
  int64_t bytes = 0;         // in memory
  uint64_t fingerprint = 0;  // WeightSource::Fingerprint, read or as it was when they were packed

  const PackedMatrix& EmbeddingTable() const { return embedding.n() != 0 ? embedding : logits; }
};

// How the matrices are laid out.
struct WeightFormats {
  PackFormat matrices;
  PackFormat logits;
  PackFormat embedding;  // that of the logits when tied
  std::string Describe() const;
};
// `element`: of the matrices that are multiplied; with int4 that of the logits is int8, and an
// embedding of its own is never quantized.
WeightFormats FormatsOf(const ModelConfig& config, WeightElement element,
                        const KernelTable& kernels);

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
