#include "engine/model/transformer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/kernels/embedding.h"
#include "engine/kernels/rms_norm.h"
#include "engine/kernels/rope.h"

namespace baton {

Transformer::Transformer(Parts parts)
    : parts_(std::move(parts)),
      ops_{*parts_.kernels, *parts_.pool, parts_.op_times},
      inverse_frequencies_(InverseFrequencies(parts_.config.rope, parts_.config.head_dim)),
      attention_scale_(1.0f / std::sqrt(static_cast<float>(parts_.config.head_dim))) {}

void Transformer::ReserveScratch(int32_t rows) {
  const ModelConfig& c = parts_.config;
  const auto n = static_cast<size_t>(rows);
  const auto activation_bytes = static_cast<size_t>(ActivationBytes(ops_.kernels.activation));
  const int32_t activation = std::max(c.hidden_size, c.QSize());
  const int32_t qkv = c.QSize() + 2 * c.KvSize();
  residual_.Reserve(n * static_cast<size_t>(c.hidden_size) * sizeof(float));
  activation_.Reserve(n * static_cast<size_t>(activation) * activation_bytes);
  qkv_.Reserve(n * static_cast<size_t>(qkv) * sizeof(float));
  gated_.Reserve(n * static_cast<size_t>(c.intermediate_size) * activation_bytes);
  cosines_.Reserve(n * static_cast<size_t>(c.head_dim / 2) * sizeof(float));
  sines_.Reserve(n * static_cast<size_t>(c.head_dim / 2) * sizeof(float));
}

absl::Status Transformer::Forward(std::span<const ForwardSequence> batch, const KvRegion& kv,
                                  const LayerDoneFn& layer_done, Logits* logits) {
  const ModelConfig& config = parts_.config;
  if (kv.layout != parts_.layout) {
    return absl::InvalidArgumentError(absl::StrCat("forward: the KV cache is ",
                                                   kv.layout.ToString(), "; the model needs ",
                                                   parts_.layout.ToString()));
  }
  RETURN_IF_ERROR(ops_.pool.PinCaller());

  // 1. Lay out the batch as rows.
  RETURN_IF_ERROR(inputs_.Fill(batch, kv, parts_.info, ops_.pool.num_threads()));
  const int32_t rows = inputs_.rows();
  ReserveScratch(rows);

  // 2. residual = embedding[tokens]; rotation angles of the rows' positions.
  Embedding(ops_, {.table = &parts_.weights.EmbeddingTable(),
                   .tokens = inputs_.tokens,
                   .output = residual_.As<float>()});
  RopeAngles(ops_, inputs_.positions, inverse_frequencies_, cosines_.As<float>(),
             sines_.As<float>());

  for (int32_t l = 0; l < config.num_layers; ++l) {
    const LayerWeights& layer = parts_.weights.layers[static_cast<size_t>(l)];
    const KvLayerView cache = ViewKvLayer(kv.layout, kv.layer_base[static_cast<size_t>(l)]);

    // 3. activation = norm(residual)
    RmsNorm(ops_, {.input = residual_.As<float>(),
                   .weight = layer.attention_norm.data(),
                   .output = activation_.data(),
                   .rows = rows,
                   .width = config.hidden_size,
                   .epsilon = config.rms_norm_eps});

    // 4. qkv = q, k, v of activation, normed and rotated; k and v into the cache: final from here.
    ComputeQkv(layer, cache);
    if (layer_done) layer_done(l);

    // 5. residual += attention over the cache, projected
    Attend(layer, cache, config.windows[static_cast<size_t>(l)]);

    // 6. activation = norm(residual)
    RmsNorm(ops_, {.input = residual_.As<float>(),
                   .weight = layer.mlp_norm.data(),
                   .output = activation_.data(),
                   .rows = rows,
                   .width = config.hidden_size,
                   .epsilon = config.rms_norm_eps});

    // 7. residual += down(silu(gate) * up)
    FeedForward(layer);
  }

  // 8. Logits of the rows that were asked for.
  ComputeLogits(logits);
  return absl::OkStatus();
}

void Transformer::ComputeQkv(const LayerWeights& layer, const KvLayerView& cache) {
  const ModelConfig& config = parts_.config;
  const int32_t rows = inputs_.rows();
  const int64_t row_stride = layer.qkv.n();
  auto* q = qkv_.As<float>();  // [rows, q + k + v]
  float* k = q + config.QSize();
  const float* v = k + config.KvSize();
  Linear(ops_, {.input = activation_.data(),
                .weights = &layer.qkv,
                .output = q,
                .rows = rows,
                .scratch = &quantized_});
  for (const bool is_query : {true, false}) {
    float* heads = is_query ? q : k;
    const int32_t num_heads = is_query ? config.num_heads : config.num_kv_heads;
    if (config.qk_norm) {
      HeadNorm(ops_, {.heads = heads,
                      .weight = (is_query ? layer.q_norm : layer.k_norm).data(),
                      .row_stride = row_stride,
                      .rows = rows,
                      .num_heads = num_heads,
                      .head_dim = config.head_dim,
                      .epsilon = config.rms_norm_eps});
    }
    Rope(ops_, {.heads = heads,
                .cosines = cosines_.As<float>(),
                .sines = sines_.As<float>(),
                .row_stride = row_stride,
                .rows = rows,
                .num_heads = num_heads,
                .head_dim = config.head_dim});
  }
  KvWrite(ops_, {.keys = k,
                 .values = v,
                 .row_stride = row_stride,
                 .slots = inputs_.slots.data(),
                 .layer = cache,
                 .rows = rows});
}

void Transformer::Attend(const LayerWeights& layer, const KvLayerView& cache, int32_t window) {
  PagedAttention(ops_,
                 {.queries = qkv_.As<float>(),
                  .row_stride = layer.qkv.n(),
                  .sequences = inputs_.sequences,
                  .layer = cache,
                  .output = activation_.data(),
                  .num_heads = parts_.config.num_heads,
                  .window = window,
                  .scale = attention_scale_,
                  .partials = &attention_partials_},
                 inputs_.attention);
  Linear(ops_, {.input = activation_.data(),
                .weights = &layer.output,
                .epilogue = Epilogue::kAddTo,
                .output = residual_.data(),
                .rows = inputs_.rows(),
                .scratch = &quantized_});
}

void Transformer::FeedForward(const LayerWeights& layer) {
  const int32_t rows = inputs_.rows();
  Linear(ops_, {.input = activation_.data(),
                .weights = &layer.gate_up,
                .epilogue = Epilogue::kSiluMul,
                .output = gated_.data(),
                .rows = rows,
                .scratch = &quantized_});
  Linear(ops_, {.input = gated_.data(),
                .weights = &layer.down,
                .epilogue = Epilogue::kAddTo,
                .output = residual_.data(),
                .rows = rows,
                .scratch = &quantized_});
}

void Transformer::ComputeLogits(Logits* logits) {
  const ModelConfig& config = parts_.config;
  const auto rows = static_cast<int32_t>(inputs_.logit_rows.size());
  const auto width = static_cast<size_t>(config.hidden_size);
  // Rows are ascending, so that moving them up never overwrites one that is still to come.
  auto* residual = residual_.As<float>();
  for (size_t i = 0; i < inputs_.logit_rows.size(); ++i) {
    const auto row = static_cast<size_t>(inputs_.logit_rows[i]);
    std::memmove(residual + i * width, residual + row * width, width * sizeof(float));
  }
  RmsNorm(ops_, {.input = residual,
                 .weight = parts_.weights.final_norm.data(),
                 .output = activation_.data(),
                 .rows = rows,
                 .width = config.hidden_size,
                 .epsilon = config.rms_norm_eps});
  logits->num_rows = rows;
  logits->vocab_size = config.vocab_size;
  logits->values.resize(static_cast<size_t>(rows) * static_cast<size_t>(config.vocab_size));
  Linear(ops_, {.input = activation_.data(),
                .weights = &parts_.weights.logits,
                .output = logits->values.data(),
                .rows = rows,
                .scratch = &quantized_});
}

}  // namespace baton
