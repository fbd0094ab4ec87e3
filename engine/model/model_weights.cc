#include "engine/model/model_weights.h"

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/model/packed_cache.h"
#include "engine/model/weight_reader.h"

namespace baton {
namespace {

class Loader {
 public:
  Loader(const WeightLoad& load, WeightReader* reader, const LoadProgressFn& progress)
      : config_(load.config),
        shard_(load.shard),
        formats_(load.formats),
        reader_(*reader),
        progress_(progress) {}

  absl::StatusOr<ModelWeights> Load() {
    ModelWeights weights;
    const int32_t hidden = config_.hidden_size;
    const MatrixShape table = ByOutputs({Part("model.embed_tokens", config_.vocab_size)}, hidden);
    if (config_.tied_embeddings) {
      ASSIGN_OR_RETURN(weights.logits, Matrix(table, formats_.logits));
    } else {
      ASSIGN_OR_RETURN(weights.embedding, Matrix(table, formats_.embedding));
    }
    for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
      ASSIGN_OR_RETURN(LayerWeights loaded, Layer(absl::StrCat("model.layers.", layer, ".")));
      weights.layers.push_back(std::move(loaded));
    }
    ASSIGN_OR_RETURN(weights.final_norm, Norm("model.norm.weight", hidden));
    if (!config_.tied_embeddings) {
      const MatrixShape head = ByOutputs({Part("lm_head", config_.vocab_size)}, hidden);
      ASSIGN_OR_RETURN(weights.logits, Matrix(head, formats_.logits));
    }
    RETURN_IF_ERROR(reader_.Finish());
    weights.num_parameters = num_parameters_;
    weights.bytes = bytes_;
    return weights;
  }

 private:
  absl::StatusOr<LayerWeights> Layer(const std::string& prefix) {
    LayerWeights layer;
    const int32_t hidden = config_.hidden_size;
    const int32_t inner = config_.intermediate_size;
    const std::string attention = absl::StrCat(prefix, "self_attn.");
    const std::string mlp = absl::StrCat(prefix, "mlp.");
    ASSIGN_OR_RETURN(layer.attention_norm,
                     Norm(absl::StrCat(prefix, "input_layernorm.weight"), hidden));
    ASSIGN_OR_RETURN(layer.qkv,
                     Matrix(ByOutputs({Part(absl::StrCat(attention, "q_proj"), config_.QSize()),
                                       Part(absl::StrCat(attention, "k_proj"), config_.KvSize()),
                                       Part(absl::StrCat(attention, "v_proj"), config_.KvSize())},
                                      hidden, config_.qkv_bias),
                            formats_.matrices));
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
                            formats_.matrices));
    ASSIGN_OR_RETURN(layer.down,
                     IntoResidual(absl::StrCat(mlp, "down_proj"), inner, config_.mlp_bias));
    return layer;
  }

  // This rank's outputs of a tensor.
  MatrixShape::Part Part(const std::string& name, int32_t rows) const {
    return {.name = name, .rows = rows, .taken = shard_.Of(rows)};
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
  absl::StatusOr<PackedMatrix> IntoResidual(const std::string& name, int32_t columns, bool bias) {
    const int32_t hidden = config_.hidden_size;
    MatrixShape shape = ByOutputs({Part(name, hidden)}, columns, bias);
    if (shard_.split == TensorSplit::kRows) {
      shape.parts[0].taken = {0, hidden};
      shape.taken_columns = shard_.Of(columns);
    }
    ASSIGN_OR_RETURN(PackedMatrix matrix, Matrix(shape, formats_.matrices));
    // Where ranks make parts of sums, one of them brings the bias.
    if (shard_.split == TensorSplit::kRows && bias && shard_.rank != 0) {
      matrix.SetBias(std::vector<float>(static_cast<size_t>(hidden)));
    }
    return matrix;
  }

  absl::StatusOr<std::vector<float>> Norm(const std::string& name, int64_t size) {
    ASSIGN_OR_RETURN(std::vector<float> values, reader_.Vector(name, WeightRole::kNorm, size));
    Count(size, size * static_cast<int64_t>(sizeof(float)));
    return values;
  }

  absl::StatusOr<PackedMatrix> Matrix(const MatrixShape& shape, const PackFormat& format) {
    ASSIGN_OR_RETURN(PackedMatrix matrix, reader_.Matrix(shape, format));
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
    // Bytes in memory stand for bytes read: equal for bf16, and close enough for a progress bar.
    const int64_t total = std::max(reader_.total_bytes(), bytes_);
    progress_(bytes_, total);
  }

  const ModelConfig& config_;
  const ModelShard& shard_;
  const WeightFormats& formats_;
  WeightReader& reader_;
  const LoadProgressFn& progress_;
  int64_t num_parameters_ = 0;
  int64_t bytes_ = 0;
};

std::string Show(const PackFormat& format) {
  return absl::StrCat("element ", static_cast<int>(format.element), ", panels of ",
                      format.panel_columns, ", lanes ", format.lanes, ", k step ", format.k_step);
}

// All that packed weights follow from, but for the code: that is in the file's version.
std::string FactsOf(const WeightLoad& load) {
  return absl::StrCat("config ", load.config.Canonical(), "\n", load.formats.Describe(), "\n",
                      load.shard.Describe(), "\n", load.source->Identity());
}

absl::StatusOr<ModelWeights> LoadPacked(const WeightLoad& load, const std::string& facts,
                                        const LoadProgressFn& progress) {
  ASSIGN_OR_RETURN(std::unique_ptr<PackedCache> cache,
                   PackedCache::Open(load.cache_file, facts, load.pool));
  CacheReader reader(cache.get());
  ASSIGN_OR_RETURN(ModelWeights weights, Loader(load, &reader, progress).Load());
  weights.fingerprint = cache->fingerprint();
  weights.cache = std::move(cache);
  return weights;
}

void Note(const WeightLoad& load, bool warning, const char* event, std::string_view why = "") {
  if (!load.note) return;
  load.note({.warning = warning, .event = event, .file = load.cache_file, .why = std::string(why)});
}

}  // namespace

std::string WeightFormats::Describe() const {
  return absl::StrCat("matrices: ", Show(matrices), "\nlogits: ", Show(logits),
                      "\nembedding: ", Show(embedding));
}

WeightFormats FormatsOf(const ModelConfig& config, WeightElement element,
                        const KernelTable& kernels) {
  const WeightElement logits = element == WeightElement::kInt4 ? WeightElement::kInt8 : element;
  WeightFormats formats = {.matrices = kernels.PackOf(element), .logits = kernels.PackOf(logits)};
  formats.embedding = config.tied_embeddings ? formats.logits : kernels.pack;
  return formats;
}

absl::StatusOr<ModelWeights> LoadWeights(const WeightLoad& load, const LoadProgressFn& progress) {
  const bool cached = !load.cache_file.empty();
  const std::string facts = cached ? FactsOf(load) : "";
  if (cached) {
    absl::StatusOr<ModelWeights> packed = LoadPacked(load, facts, progress);
    if (packed.ok()) {
      Note(load, false, "packed weights used");
      return packed;
    }
    if (!absl::IsNotFound(packed.status())) {
      Note(load, true, "packed weights are stale", View(packed.status().message()));
    }
  }
  PackingReader reader(load.source, load.pool);
  ASSIGN_OR_RETURN(ModelWeights weights, Loader(load, &reader, progress).Load());
  weights.fingerprint = load.source->Fingerprint(load.pool);
  if (!cached) return weights;
  const absl::Status written = WritePackedCache(
      load.cache_file,
      {.facts = facts, .fingerprint = weights.fingerprint, .sections = reader.sections()},
      load.pool);
  if (written.ok()) {
    Note(load, false, "packed weights written");
  } else {
    Note(load, !absl::IsAborted(written), "packed weights not written", View(written.message()));
  }
  return weights;
}

}  // namespace baton
