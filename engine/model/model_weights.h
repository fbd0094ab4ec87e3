// A model's weights in memory, packed for the kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/kernels/linear.h"
#include "engine/model/model.h"
#include "engine/model/model_config.h"
#include "engine/model/weight_source.h"

namespace baton {

struct LayerWeights {
  std::vector<float> attention_norm;  // [hidden]
  PackedMatrix qkv;                   // [q + k + v, hidden]
  std::vector<float> q_norm;          // [head_dim], empty without qk_norm
  std::vector<float> k_norm;          // [head_dim], empty without qk_norm
  PackedMatrix output;                // [hidden, q]
  std::vector<float> mlp_norm;        // [hidden]
  PackedMatrix gate_up;               // [2 * intermediate, hidden]
  PackedMatrix down;                  // [hidden, intermediate]
};

struct ModelWeights {
  PackedMatrix embedding;  // [vocab, hidden]; empty when tied: then `logits` is the table
  std::vector<LayerWeights> layers;
  std::vector<float> final_norm;  // [hidden]
  PackedMatrix logits;            // [vocab, hidden]
  int64_t num_parameters = 0;
  int64_t bytes = 0;  // in memory

  const PackedMatrix& EmbeddingTable() const { return embedding.n() != 0 ? embedding : logits; }
};

// Reads every tensor of `config` from `source`, packing on the pool. `progress` may be null.
absl::StatusOr<ModelWeights> LoadWeights(const ModelConfig& config, const OpContext& context,
                                         WeightSource* source, const LoadProgressFn& progress);

}  // namespace baton
