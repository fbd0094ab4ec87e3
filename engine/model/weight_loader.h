// Which tensors make up a model, in the order in which they are read: the same for every backend,
// which differ in what becomes of a tensor.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/kernels/kernel_table.h"
#include "engine/model/matrix_shape.h"
#include "engine/model/model.h"
#include "engine/model/model_config.h"
#include "engine/model/model_shard.h"
#include "engine/model/weight_source.h"

namespace baton {

// What a matrix is for: a backend may keep some of them in another way than others.
enum class MatrixUse {
  kProjection,  // of a layer
  kLogits,      // and, when tied, the embedding too
  kEmbedding,   // of its own
};
// What a matrix is kept as where `element` is asked for: with int4 the logits' is int8, with fp8
// `plain`, and an embedding of its own is always `plain`.
constexpr WeightElement ElementFor(MatrixUse use, WeightElement element, WeightElement plain) {
  if (use == MatrixUse::kProjection) return element;
  if (use == MatrixUse::kEmbedding || element == WeightElement::kFp8) return plain;
  return element == WeightElement::kInt4 ? WeightElement::kInt8 : element;
}

// `Vector`: numbers of a norm. `Matrix`: has n(), 0 if it was made by default, and bytes().
// Sizes are of all of a model; a shard has its part of them, see ModelShard.
template <typename Vector, typename Matrix>
struct LayerWeightsOf {
  Vector attention_norm;  // [hidden]
  Matrix qkv;             // [q + k + v, hidden]
  Vector q_norm;          // [head_dim], empty without qk_norm
  Vector k_norm;          // [head_dim], empty without qk_norm
  Matrix output;          // [hidden, q]
  Vector mlp_norm;        // [hidden]
  Matrix gate_up;         // [intermediate, 2 (gate, up), hidden]: Epilogue::kSiluMul
  Matrix down;            // [hidden, intermediate]
};

template <typename Vector, typename Matrix>
struct ModelWeightsOf {
  Matrix embedding;  // [vocab, hidden]; empty when tied: then `logits` is the table
  std::vector<LayerWeightsOf<Vector, Matrix>> layers;
  Vector final_norm;  // [hidden]
  Matrix logits;      // [vocab, hidden]
  int64_t num_parameters = 0;
  int64_t bytes = 0;  // in memory
  // WeightSource::Fingerprint, read now or when the weights were packed; the caller's to fill in.
  uint64_t fingerprint = 0;

  const Matrix& EmbeddingTable() const { return embedding.n() != 0 ? embedding : logits; }
};

// Brings tensors into a backend's memory. Not thread-safe.
template <typename VectorType, typename MatrixType>
class WeightReader {
 public:
  virtual ~WeightReader() = default;
  virtual absl::StatusOr<VectorType> Vector(const std::string& name, WeightRole role,
                                            int64_t size) = 0;
  virtual absl::StatusOr<MatrixType> Matrix(const MatrixShape& shape, MatrixUse use) = 0;
  // After all of them.
  virtual absl::Status Finish() = 0;
};

// For one Load. Borrows what it is made of.
template <typename VectorType, typename MatrixType>
class WeightLoader {
 public:
  using Reader = WeightReader<VectorType, MatrixType>;
  using Layer = LayerWeightsOf<VectorType, MatrixType>;
  using Model = ModelWeightsOf<VectorType, MatrixType>;

  // `progress` may be null.
  WeightLoader(const ModelConfig& config, const ModelShard& shard, Reader* reader,
               const LoadProgressFn& progress)
      : config_(config), shard_(shard), reader_(*reader), progress_(progress) {}

  // The shard's part of every tensor of the model.
  absl::StatusOr<Model> Load() {
    Model weights;
    const int32_t hidden = config_.hidden_size;
    const MatrixShape table = ByOutputs({Part("model.embed_tokens", config_.vocab_size)}, hidden);
    if (config_.tied_embeddings) {
      ASSIGN_OR_RETURN(weights.logits, Matrix(table, MatrixUse::kLogits));
    } else {
      ASSIGN_OR_RETURN(weights.embedding, Matrix(table, MatrixUse::kEmbedding));
    }
    for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
      ASSIGN_OR_RETURN(Layer loaded, LoadLayer(absl::StrCat("model.layers.", layer, ".")));
      weights.layers.push_back(std::move(loaded));
    }
    ASSIGN_OR_RETURN(weights.final_norm, Norm("model.norm.weight", hidden));
    if (!config_.tied_embeddings) {
      const MatrixShape head = ByOutputs({Part("lm_head", config_.vocab_size)}, hidden);
      ASSIGN_OR_RETURN(weights.logits, Matrix(head, MatrixUse::kLogits));
    }
    RETURN_IF_ERROR(reader_.Finish());
    if (progress_) progress_(bytes_, bytes_);
    weights.num_parameters = num_parameters_;
    weights.bytes = bytes_;
    return weights;
  }

 private:
  absl::StatusOr<Layer> LoadLayer(const std::string& prefix) {
    Layer layer;
    const int32_t hidden = config_.hidden_size;
    const int32_t inner = config_.intermediate_size;
    const std::string attention = absl::StrCat(prefix, "self_attn.");
    const std::string mlp = absl::StrCat(prefix, "mlp.");
    ASSIGN_OR_RETURN(layer.attention_norm,
                     Norm(absl::StrCat(prefix, "input_layernorm.weight"), hidden));
    ASSIGN_OR_RETURN(layer.qkv,
                     Matrix(ByOutputs({Part(absl::StrCat(attention, "q_proj"), config_.QSize()),
                                       KvPart(absl::StrCat(attention, "k_proj")),
                                       KvPart(absl::StrCat(attention, "v_proj"))},
                                      hidden, config_.qkv_bias),
                            MatrixUse::kProjection));
    if (config_.qk_norm) {
      ASSIGN_OR_RETURN(layer.q_norm,
                       Norm(absl::StrCat(attention, "q_norm.weight"), config_.head_dim));
      ASSIGN_OR_RETURN(layer.k_norm,
                       Norm(absl::StrCat(attention, "k_norm.weight"), config_.head_dim));
    }
    ASSIGN_OR_RETURN(layer.output, IntoResidual(absl::StrCat(attention, "o_proj"), config_.QSize(),
                                                config_.output_bias));
    ASSIGN_OR_RETURN(layer.mlp_norm,
                     Norm(absl::StrCat(prefix, "post_attention_layernorm.weight"), hidden));
    ASSIGN_OR_RETURN(layer.gate_up,
                     Matrix(ByOutputs({Part(absl::StrCat(mlp, "gate_proj"), inner),
                                       Part(absl::StrCat(mlp, "up_proj"), inner)},
                                      hidden, config_.mlp_bias, PartOrder::kAlternating),
                            MatrixUse::kProjection));
    ASSIGN_OR_RETURN(layer.down,
                     IntoResidual(absl::StrCat(mlp, "down_proj"), inner, config_.mlp_bias));
    return layer;
  }

  // This rank's outputs of a tensor.
  MatrixShape::Part Part(const std::string& name, int32_t rows) const {
    return {.name = name, .rows = rows, .taken = shard_.Of(rows)};
  }

  // Its KV heads of a tensor: other ranks may have the same.
  MatrixShape::Part KvPart(const std::string& name) const {
    const ShardRange heads = shard_.OfKvHeads(config_.num_kv_heads);
    return {.name = name,
            .rows = config_.KvSize(),
            .taken = {heads.begin * config_.head_dim, heads.end * config_.head_dim}};
  }

  static MatrixShape ByOutputs(std::vector<MatrixShape::Part> parts, int32_t columns,
                               bool bias = false, PartOrder order = PartOrder::kStacked) {
    return {.parts = std::move(parts),
            .order = order,
            .columns = columns,
            .taken_columns = {0, columns},
            .bias = bias};
  }

  // A projection into the residual stream: see TensorSplit.
  absl::StatusOr<MatrixType> IntoResidual(const std::string& name, int32_t columns, bool bias) {
    const int32_t hidden = config_.hidden_size;
    MatrixShape shape = ByOutputs({Part(name, hidden)}, columns, bias);
    if (shard_.split == TensorSplit::kRows) {
      shape.parts[0].taken = {0, hidden};
      shape.taken_columns = shard_.Of(columns);
      // Where ranks make parts of sums, one of them brings the bias.
      shape.bias_elsewhere = shard_.rank != 0;
    }
    return Matrix(shape, MatrixUse::kProjection);
  }

  absl::StatusOr<VectorType> Norm(const std::string& name, int64_t size) {
    ASSIGN_OR_RETURN(VectorType values, reader_.Vector(name, WeightRole::kNorm, size));
    Count(size, size * static_cast<int64_t>(sizeof(float)));
    return values;
  }

  absl::StatusOr<MatrixType> Matrix(const MatrixShape& shape, MatrixUse use) {
    ASSIGN_OR_RETURN(MatrixType matrix, reader_.Matrix(shape, use));
    int64_t rows = 0;  // of the whole model
    for (const MatrixShape::Part& part : shape.parts) rows += part.rows;
    if (shape.bias) Count(rows, shape.Rows() * static_cast<int64_t>(sizeof(float)));
    Count(rows * shape.columns, matrix.bytes());
    return matrix;
  }

  void Count(int64_t parameters, int64_t bytes) {
    num_parameters_ += parameters;
    bytes_ += bytes;
    if (!progress_) return;
    // As if the parameters to come took as many bytes each.
    const double share =
        static_cast<double>(num_parameters_) / static_cast<double>(config_.NumParameters());
    progress_(bytes_, static_cast<int64_t>(static_cast<double>(bytes_) / share));
  }

  const ModelConfig& config_;
  const ModelShard& shard_;
  Reader& reader_;
  const LoadProgressFn& progress_;
  int64_t num_parameters_ = 0;
  int64_t bytes_ = 0;
};

}  // namespace baton
