#include "engine/model/model_weights.h"

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

// One tensor's rows within a packed matrix that several tensors share.
struct Part {
  std::string name;  // without ".weight" or ".bias"
  int64_t rows = 0;
};

class Loader {
 public:
  Loader(const ModelConfig& config, const OpContext& context, WeightSource* source,
         const LoadProgressFn& progress)
      : config_(config), context_(context), source_(*source), progress_(progress) {}

  absl::StatusOr<ModelWeights> Load() {
    ModelWeights weights;
    const int64_t hidden = config_.hidden_size;
    const int64_t vocab = config_.vocab_size;
    if (config_.tied_embeddings) {
      ASSIGN_OR_RETURN(weights.logits, Matrix({{"model.embed_tokens", vocab}}, hidden, false));
    } else {
      ASSIGN_OR_RETURN(weights.embedding, Matrix({{"model.embed_tokens", vocab}}, hidden, false));
    }
    for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
      ASSIGN_OR_RETURN(LayerWeights loaded, Layer(absl::StrCat("model.layers.", layer, ".")));
      weights.layers.push_back(std::move(loaded));
    }
    ASSIGN_OR_RETURN(weights.final_norm, Vector("model.norm.weight", WeightRole::kNorm, hidden));
    if (!config_.tied_embeddings) {
      ASSIGN_OR_RETURN(weights.logits, Matrix({{"lm_head", vocab}}, hidden, false));
    }
    RETURN_IF_ERROR(source_.CheckAllUsed());
    weights.num_parameters = num_parameters_;
    weights.bytes = bytes_;
    return weights;
  }

 private:
  absl::StatusOr<LayerWeights> Layer(const std::string& prefix) {
    LayerWeights layer;
    const int64_t hidden = config_.hidden_size;
    const int64_t inner = config_.intermediate_size;
    const std::string attention = absl::StrCat(prefix, "self_attn.");
    const std::string mlp = absl::StrCat(prefix, "mlp.");
    ASSIGN_OR_RETURN(layer.attention_norm, Vector(absl::StrCat(prefix, "input_layernorm.weight"),
                                                  WeightRole::kNorm, hidden));
    ASSIGN_OR_RETURN(layer.qkv, Matrix({{absl::StrCat(attention, "q_proj"), config_.QSize()},
                                        {absl::StrCat(attention, "k_proj"), config_.KvSize()},
                                        {absl::StrCat(attention, "v_proj"), config_.KvSize()}},
                                       hidden, config_.qkv_bias));
    if (config_.qk_norm) {
      ASSIGN_OR_RETURN(layer.q_norm, Vector(absl::StrCat(attention, "q_norm.weight"),
                                            WeightRole::kNorm, config_.head_dim));
      ASSIGN_OR_RETURN(layer.k_norm, Vector(absl::StrCat(attention, "k_norm.weight"),
                                            WeightRole::kNorm, config_.head_dim));
    }
    ASSIGN_OR_RETURN(layer.output, Matrix({{absl::StrCat(attention, "o_proj"), hidden}},
                                          config_.QSize(), config_.output_bias));
    ASSIGN_OR_RETURN(layer.mlp_norm, Vector(absl::StrCat(prefix, "post_attention_layernorm.weight"),
                                            WeightRole::kNorm, hidden));
    ASSIGN_OR_RETURN(layer.gate_up, Matrix({{absl::StrCat(mlp, "gate_proj"), inner},
                                            {absl::StrCat(mlp, "up_proj"), inner}},
                                           hidden, config_.mlp_bias));
    ASSIGN_OR_RETURN(layer.down,
                     Matrix({{absl::StrCat(mlp, "down_proj"), hidden}}, inner, config_.mlp_bias));
    return layer;
  }

  absl::StatusOr<std::vector<float>> Vector(const std::string& name, WeightRole role,
                                            int64_t size) {
    ASSIGN_OR_RETURN(const WeightTensor tensor, source_.Get(name, role, 1, size));
    std::vector<float> values(static_cast<size_t>(size));
    tensor.ReadRow(0, values.data());
    Count(size, size * static_cast<int64_t>(sizeof(float)));
    return values;
  }

  // The tensors of `parts` below one another.
  absl::StatusOr<PackedMatrix> Matrix(const std::vector<Part>& parts, int64_t columns, bool bias) {
    std::vector<WeightTensor> tensors;
    std::vector<float> biases;
    int64_t rows = 0;
    for (const Part& part : parts) {
      ASSIGN_OR_RETURN(
          const WeightTensor tensor,
          source_.Get(absl::StrCat(part.name, ".weight"), WeightRole::kMatrix, part.rows, columns));
      tensors.push_back(tensor);
      rows += part.rows;
      if (!bias) continue;
      ASSIGN_OR_RETURN(const std::vector<float> values,
                       Vector(absl::StrCat(part.name, ".bias"), WeightRole::kBias, part.rows));
      biases.insert(biases.end(), values.begin(), values.end());
    }
    PackedMatrix matrix(static_cast<int32_t>(rows), static_cast<int32_t>(columns),
                        context_.kernels.pack);
    if (context_.kernels.pack.f32) {
      Pack<float>(parts, tensors, &matrix);
    } else {
      Pack<Bf16>(parts, tensors, &matrix);
    }
    if (bias) matrix.SetBias(std::move(biases));
    Count(rows * columns, matrix.bytes());
    return matrix;
  }

  template <typename T>
  void Pack(const std::vector<Part>& parts, const std::vector<WeightTensor>& tensors,
            PackedMatrix* matrix) {
    const int32_t width = matrix->format().panel_columns;
    const auto columns = static_cast<size_t>(matrix->k());
    context_.pool.ReserveScratch(static_cast<size_t>(width) * columns * sizeof(T));
    context_.pool.Run(matrix->num_panels(), [&](int32_t panel, int32_t thread) {
      T* scratch = reinterpret_cast<T*>(context_.pool.Scratch(thread));
      std::vector<const T*> rows;  // of this panel
      const int64_t end = std::min<int64_t>(matrix->n(), int64_t{panel + 1} * width);
      for (int64_t row = int64_t{panel} * width; row < end; ++row) {
        T* target = scratch + rows.size() * columns;
        ReadRow(parts, tensors, row, target);
        rows.push_back(target);
      }
      matrix->PackPanel(panel, rows);
    });
  }

  template <typename T>
  static void ReadRow(const std::vector<Part>& parts, const std::vector<WeightTensor>& tensors,
                      int64_t row, T* target) {
    size_t part = 0;
    while (row >= parts[part].rows) row -= parts[part++].rows;
    tensors[part].ReadRow(row, target);
  }

  void Count(int64_t parameters, int64_t bytes) {
    num_parameters_ += parameters;
    bytes_ += bytes;
    if (!progress_) return;
    // Bytes in memory stand for bytes read: equal for bf16, and close enough for a progress bar.
    const int64_t total = std::max(source_.total_bytes(), bytes_);
    progress_(bytes_, total);
  }

  const ModelConfig& config_;
  const OpContext& context_;
  WeightSource& source_;
  const LoadProgressFn& progress_;
  int64_t num_parameters_ = 0;
  int64_t bytes_ = 0;
};

}  // namespace

absl::StatusOr<ModelWeights> LoadWeights(const ModelConfig& config, const OpContext& context,
                                         WeightSource* source, const LoadProgressFn& progress) {
  return Loader(config, context, source, progress).Load();
}

}  // namespace baton
