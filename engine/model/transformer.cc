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
      heads_(parts_.ranks == nullptr ? parts_.config
                                     : HeadsOf(parts_.config, parts_.ranks->shard())),
      ops_{*parts_.kernels, *parts_.pool, parts_.op_times},
      inverse_frequencies_(InverseFrequencies(parts_.config.rope, parts_.config.head_dim)),
      attention_scale_(1.0f / std::sqrt(static_cast<float>(parts_.config.head_dim))) {}

void Transformer::ReserveScratch(int32_t rows) {
  const ModelConfig& c = parts_.config;
  const auto n = static_cast<size_t>(rows);
  const auto activation_bytes = static_cast<size_t>(ActivationBytes(ops_.kernels.activation));
  const int32_t activation = std::max(c.hidden_size, c.QSize());
  const int32_t qkv = heads_.QSize() + 2 * heads_.KvSize();
  residual_.Reserve(n * static_cast<size_t>(c.hidden_size) * sizeof(float));
  activation_.Reserve(n * static_cast<size_t>(activation) * activation_bytes);
  qkv_.Reserve(n * static_cast<size_t>(qkv) * sizeof(float));
  gated_.Reserve(n * static_cast<size_t>(c.intermediate_size) * activation_bytes);
  cosines_.Reserve(n * static_cast<size_t>(c.head_dim / 2) * sizeof(float));
  sines_.Reserve(n * static_cast<size_t>(c.head_dim / 2) * sizeof(float));
  if (parts_.ranks == nullptr) return;
  const int32_t inner = parts_.ranks->shard().Of(c.intermediate_size).count();
  columns_.Reserve(n * static_cast<size_t>(std::max(heads_.QSize(), inner)) * activation_bytes);
  product_.Reserve(n * static_cast<size_t>(c.hidden_size) * sizeof(float));
  joined_.Reserve(n * static_cast<size_t>(c.hidden_size) * sizeof(float));
}

KvLayerView Transformer::Cache(int32_t layer) const {
  return ViewKvLayer(call_.kv->layout, call_.kv->layer_base[static_cast<size_t>(layer)]);
}

void Transformer::LayerDone(int32_t layer) const {
  if (*call_.layer_done) (*call_.layer_done)(layer);
}

absl::Status Transformer::status() const {
  return parts_.ranks == nullptr ? absl::OkStatus() : parts_.ranks->status();
}

absl::Status Transformer::Forward(std::span<const ForwardSequence> batch, const KvRegion& kv,
                                  const LayerDoneFn& layer_done, Logits* logits) {
  if (kv.layout != parts_.layout) {
    return absl::InvalidArgumentError(absl::StrCat("forward: the KV cache is ",
                                                   kv.layout.ToString(), "; the model needs ",
                                                   parts_.layout.ToString()));
  }
  RETURN_IF_ERROR(ops_.pool.PinCaller());
  RETURN_IF_ERROR(inputs_.Fill(batch, kv, heads_));
  if (inputs_.HasDraws()) {
    return absl::InvalidArgumentError("forward: draws of the step before, which was no device's");
  }
  inputs_.PlanForThreads(heads_, parts_.layout.block_size, ops_.pool.num_threads());
  ReserveScratch(inputs_.rows());
  call_ = {.kv = &kv, .layer_done = &layer_done, .logits = logits};
  absl::Status status = RunDecoder(parts_.config.num_layers, *this);
  call_ = {};
  return status;
}

void Transformer::Embed() {
  if (parts_.ranks == nullptr) {
    Embedding(ops_, {.table = &parts_.weights.EmbeddingTable(),
                     .tokens = inputs_.tokens,
                     .output = residual_.As<float>()});
  } else {
    EmbedOfRanks();
  }
  RopeAngles(ops_, inputs_.positions, inverse_frequencies_, cosines_.As<float>(),
             sines_.As<float>());
}

// Every row comes from the rank that has its token; the others add zeros.
void Transformer::EmbedOfRanks() {
  const ShardRange mine = parts_.ranks->shard().Of(parts_.config.vocab_size);
  const auto has = [&](TokenId token) { return token >= mine.begin && token < mine.end; };
  own_tokens_.clear();
  for (const TokenId token : inputs_.tokens) {
    if (has(token)) own_tokens_.push_back(token - mine.begin);
  }
  auto* found = product_.As<float>();  // [own_tokens_.size(), hidden]
  Embedding(ops_,
            {.table = &parts_.weights.EmbeddingTable(), .tokens = own_tokens_, .output = found});
  const auto width = static_cast<size_t>(parts_.config.hidden_size);
  auto* row = residual_.As<float>();
  for (const TokenId token : inputs_.tokens) {
    if (has(token)) {
      std::copy_n(found, width, row);
      found += width;
    } else {
      std::fill_n(row, width, 0.0f);
    }
    row += width;
  }
  parts_.ranks->Sum(residual_.As<float>(), inputs_.tokens.size() * width);
}

void Transformer::Norm(const std::vector<float>& weight, int32_t rows) {
  RmsNorm(ops_, {.input = residual_.As<float>(),
                 .weight = weight.data(),
                 .output = activation_.data(),
                 .rows = rows,
                 .width = parts_.config.hidden_size,
                 .epsilon = parts_.config.rms_norm_eps});
}

void Transformer::ComputeQkv(int32_t index) {
  const LayerWeights& layer = Layer(index);
  const ModelConfig& config = heads_;
  const int32_t rows = inputs_.rows();
  if (rows == 0) return;  // there may be no array to point into
  const int64_t row_stride = layer.qkv.n();
  auto* q = qkv_.As<float>();  // [rows, q + k + v]
  float* k = q + config.QSize();
  const float* v = k + config.KvSize();
  Norm(layer.attention_norm, rows);
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
                 .layer = Cache(index),
                 .rows = rows});
  if (parts_.ranks == nullptr) LayerDone(index);
}

void Transformer::Attend(int32_t index) {
  const LayerWeights& layer = Layer(index);
  PagedAttention(ops_,
                 {.queries = qkv_.As<float>(),
                  .row_stride = layer.qkv.n(),
                  .sequences = inputs_.sequences,
                  .layer = Cache(index),
                  .output = JoinsInputs() ? columns_.data() : activation_.data(),
                  .num_heads = heads_.num_heads,
                  .window = heads_.windows[static_cast<size_t>(index)],
                  .scale = attention_scale_,
                  .partials = &attention_partials_},
                 inputs_.attention);
  if (JoinsInputs()) {
    parts_.ranks->Join({.mine = columns_.data(),
                        .rows = inputs_.rows(),
                        .width = parts_.config.QSize(),
                        .number_bytes = ActivationBytes(ops_.kernels.activation)},
                       activation_.data());
  }
  AddToResidual(layer.output, activation_.data());
  // KV is done once all ranks have written theirs: they have when they have joined.
  if (parts_.ranks != nullptr && parts_.ranks->status().ok()) LayerDone(index);
}

void Transformer::FeedForward(int32_t index) {
  const LayerWeights& layer = Layer(index);
  Norm(layer.mlp_norm, inputs_.rows());
  Linear(ops_, {.input = activation_.data(),
                .weights = &layer.gate_up,
                .epilogue = Epilogue::kSiluMul,
                .output = JoinsInputs() ? columns_.data() : gated_.data(),
                .rows = inputs_.rows(),
                .scratch = &quantized_});
  if (JoinsInputs()) {
    parts_.ranks->Join({.mine = columns_.data(),
                        .rows = inputs_.rows(),
                        .width = parts_.config.intermediate_size,
                        .number_bytes = ActivationBytes(ops_.kernels.activation)},
                       gated_.data());
  }
  AddToResidual(layer.down, gated_.data());
}

void Transformer::AddToResidual(const PackedMatrix& weights, const void* input) {
  const int32_t rows = inputs_.rows();
  LinearArgs args{.input = input,
                  .weights = &weights,
                  .epilogue = Epilogue::kAddTo,
                  .output = residual_.data(),
                  .rows = rows,
                  .scratch = &quantized_};
  if (parts_.ranks == nullptr) return Linear(ops_, args);
  args.epilogue = Epilogue::kStore;
  args.output = product_.data();
  Linear(ops_, args);
  const int32_t width = parts_.config.hidden_size;
  const size_t count = static_cast<size_t>(rows) * static_cast<size_t>(width);
  const float* sum = product_.As<float>();
  if (JoinsInputs()) {
    parts_.ranks->Join(
        {.mine = product_.data(), .rows = rows, .width = width, .number_bytes = sizeof(float)},
        joined_.data());
    sum = joined_.As<float>();
  } else {
    parts_.ranks->Sum(product_.As<float>(), count);
  }
  auto* residual = residual_.As<float>();
  for (size_t i = 0; i < count; ++i) residual[i] += sum[i];
}

void Transformer::ComputeLogits() {
  const ModelConfig& config = parts_.config;
  Logits* logits = call_.logits;
  const auto rows = static_cast<int32_t>(inputs_.logit_rows.size());
  const auto width = static_cast<size_t>(config.hidden_size);
  // Rows are ascending, so that moving them up never overwrites one that is still to come.
  auto* residual = residual_.As<float>();
  for (size_t i = 0; i < inputs_.logit_rows.size(); ++i) {
    const auto row = static_cast<size_t>(inputs_.logit_rows[i]);
    std::memmove(residual + i * width, residual + row * width, width * sizeof(float));
  }
  Norm(parts_.weights.final_norm, rows);
  const bool wanted = parts_.ranks == nullptr || parts_.ranks->shard().rank == 0;
  logits->num_rows = wanted ? rows : 0;
  logits->vocab_size = config.vocab_size;
  logits->values.resize(static_cast<size_t>(logits->num_rows) *
                        static_cast<size_t>(config.vocab_size));
  LinearArgs args{.input = activation_.data(),
                  .weights = &parts_.weights.logits,
                  .output = logits->values.data(),
                  .rows = rows,
                  .scratch = &quantized_};
  if (parts_.ranks == nullptr) return Linear(ops_, args);
  const auto mine = static_cast<size_t>(parts_.weights.logits.n());
  product_.Reserve(static_cast<size_t>(rows) * mine * sizeof(float));
  args.output = product_.data();
  Linear(ops_, args);
  parts_.ranks->JoinAtFirst({.mine = product_.data(),
                             .rows = rows,
                             .width = config.vocab_size,
                             .number_bytes = sizeof(float)},
                            logits->values.data());
}

}  // namespace baton
