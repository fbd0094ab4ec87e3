#include "engine/model/cuda/cuda_transformer.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/clock.h"
#include "engine/kernels/cuda/dequantize.h"
#include "engine/kernels/cuda/embedding.h"
#include "engine/kernels/cuda/rms_norm.h"
#include "engine/kernels/cuda/rope_write.h"
#include "engine/kernels/cuda/silu_mul.h"
#include "engine/model/cuda/block_copies.h"

namespace baton {

CudaTransformer::CudaTransformer(Parts parts, CudaStepInputs step_inputs)
    : parts_(std::move(parts)),
      heads_(HeadsOf(parts_.config, parts_.shard)),
      inner_(parts_.shard.Of(parts_.config.intermediate_size).count()),
      linear_(*parts_.context, {.batch_invariant = parts_.batch_invariant}),
      step_inputs_(std::move(step_inputs)),
      attention_scale_(1.0f / std::sqrt(static_cast<float>(parts_.config.head_dim))) {}

absl::Status CudaTransformer::CheckRegion(const KvRegion& kv) const {
  if (kv.layout == parts_.layout) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the KV cache is ", kv.layout.ToString(),
                                                 "; the model needs ", parts_.layout.ToString()));
}

absl::Status CudaTransformer::Forward(std::span<const ForwardSequence> batch, const KvRegion& kv,
                                      const LayerDoneFn& layer_done, Logits* logits) {
  const absl::Time begin = MonotonicClock().Now();
  RETURN_IF_ERROR(context().MakeCurrent());
  RETURN_IF_ERROR(CheckRegion(kv));
  RETURN_IF_ERROR(rows_.Fill(batch, kv, heads_));
  RETURN_IF_ERROR(step_inputs_.Check(rows_));
  if (rows_.HasDraws() && LeadsRanks() && drawn_before_ == nullptr) {
    return absl::InvalidArgumentError("forward: draws of a step before, and there was none");
  }
  const bool timed = parts_.step_times != nullptr;
  const absl::Status enqueued = timed ? EnqueueTimed(kv, begin) : Enqueue(kv);
  step_.kv = nullptr;
  RETURN_IF_ERROR(enqueued);
  RETURN_IF_ERROR(Finish(layer_done, logits));
  if (timed) parts_.step_times->device_ms = timer_.ElapsedMs(context());
  return context().status();
}

absl::Status CudaTransformer::EnqueueTimed(const KvRegion& kv, absl::Time begin) {
  timer_.Start(context());
  RETURN_IF_ERROR(Enqueue(kv));
  timer_.Stop(context());
  parts_.step_times->host_ms = absl::ToDoubleMilliseconds(MonotonicClock().Now() - begin);
  return absl::OkStatus();
}

absl::Status CudaTransformer::Enqueue(const KvRegion& kv) {
  const CudaStepShape shape = step_inputs_.ShapeOf(rows_);
  const std::optional<CudaStepShape> bucket =
      parts_.use_graphs ? DecodeBucket(shape, parts_.limits) : std::nullopt;
  return EnqueueAs(bucket.value_or(shape), bucket.has_value(), kv);
}

absl::Status CudaTransformer::EnqueueAs(const CudaStepShape& shape, bool as_graph,
                                        const KvRegion& kv) {
  step_ = {.shape = shape, .as_graph = as_graph, .kv = &kv};
  step_.inputs = step_inputs_.Upload(context(), rows_, shape);
  if (rows_.HasDraws()) TakeDraws();
  const auto run = [this] { return RunDecoder(parts_.config.num_layers, *this); };
  return as_graph ? graphs_.Run(context(), shape, kv, run) : run();
}

// Rank 0's device has drawn, and tells those of the others.
void CudaTransformer::TakeDraws() {
  if (LeadsRanks()) {
    TakeDrawnTokens(context(), {.drawn = drawn_before_,
                                .draws = step_.inputs.draws,
                                .tokens = step_.inputs.tokens,
                                .rows = step_.shape.rows});
  }
  if (IsWhole()) return;
  parts_.ranks->Broadcast(context(), step_.inputs.tokens, static_cast<size_t>(step_.shape.rows));
}

absl::Status CudaTransformer::Finish(const LayerDoneFn& layer_done, Logits* logits) {
  logits->num_rows = LeadsRanks() ? static_cast<int32_t>(rows_.logit_rows.size()) : 0;
  logits->vocab_size = parts_.config.vocab_size;
  logits->values.clear();
  if (parts_.logits_stay) {
    if (!LeadsRanks()) return TellLayers(layer_done);
    if (logits->num_rows == 0) {
      RETURN_IF_ERROR(TellLayers(layer_done));
      return context().Synchronize();
    }
    RETURN_IF_ERROR(use_logits_(WholeLogits().data(), logits->num_rows));
    return TellLayers(layer_done);
  }
  const size_t count = Product(logits->num_rows, logits->vocab_size);
  Download(context(), WholeLogits(), {host_logits_.data(), count});
  RETURN_IF_ERROR(TellLayers(layer_done));
  RETURN_IF_ERROR(context().Synchronize());
  logits->values.assign(host_logits_.data(), host_logits_.data() + count);
  return absl::OkStatus();
}

absl::Status CudaTransformer::TellLayers(const LayerDoneFn& layer_done) {
  if (!layer_done) return absl::OkStatus();
  if (step_.as_graph) RETURN_IF_ERROR(context().Synchronize());  // it has no events
  for (int32_t layer = 0; layer < parts_.config.num_layers; ++layer) {
    if (!step_.as_graph) kv_written_[static_cast<size_t>(layer)].Wait(context());
    RETURN_IF_ERROR(context().status());
    layer_done(layer);
  }
  return absl::OkStatus();
}

void CudaTransformer::OrderLogits() {
  const auto rows = static_cast<size_t>(step_.shape.logit_rows);
  const auto width = static_cast<size_t>(parts_.weights.logits.n());  // alike on all ranks
  const auto ranks = static_cast<size_t>(parts_.shard.size);
  const size_t row_bytes = width * sizeof(float);
  for (size_t rank = 0; rank < ranks; ++rank) {
    context().Note(cudaMemcpy2DAsync(ordered_logits_.data() + rank * width, ranks * row_bytes,
                                     joined_logits_.data() + rank * rows * width, row_bytes,
                                     row_bytes, rows, cudaMemcpyDeviceToDevice, context().stream()),
                   "order logits");
  }
}

void CudaTransformer::Embed() {
  const CudaMatrix& table = parts_.weights.EmbeddingTable();
  const ShardRange tokens = parts_.shard.Of(parts_.config.vocab_size);
  if (IsQuantized(table.element())) {  // it is the logits' matrix too
    QuantizedEmbedding(context(), {.table = &table,
                                   .first_token = tokens.begin,
                                   .tokens = step_.inputs.tokens,
                                   .output = residual_.data(),
                                   .rows = step_.shape.rows});
  } else {
    Embedding(context(), {.table = table.weights().data(),
                          .first_token = tokens.begin,
                          .num_tokens = tokens.count(),
                          .tokens = step_.inputs.tokens,
                          .output = residual_.data(),
                          .rows = step_.shape.rows,
                          .width = parts_.config.hidden_size});
  }
  // Every row comes from the rank that has its token; the others add zeros.
  SumResidualOfRanks();
}

void CudaTransformer::SumResidualOfRanks() {
  if (IsWhole()) return;
  parts_.ranks->AllReduceSum(context(), residual_.data(),
                             Product(step_.shape.rows, parts_.config.hidden_size));
}

// Where ranks compute the model together: once their sum is here to which each has added what its
// attention made of the layer's KV. So rank 0's event stands for the KV of all ranks.
void CudaTransformer::KvIsFinal(int32_t layer) {
  if (!step_.as_graph) kv_written_[static_cast<size_t>(layer)].Record(context());
}

void CudaTransformer::RunNormed(const float* input, const DeviceArray<float>& weight,
                                CudaLinearArgs product) {
  const RmsNormArgs norm{.input = input,
                         .weight = weight.data(),
                         .output = activation_.data(),
                         .rows = product.rows,
                         .width = parts_.config.hidden_size,
                         .epsilon = parts_.config.rms_norm_eps};
  product.input = activation_.data();
  linear_.Run(product, [&](const E4m3Rows* rounded) {
    if (rounded == nullptr) return RmsNorm(context(), norm);
    RmsNormToE4m3(context(), norm, *rounded);
  });
}

void CudaTransformer::ComputeQkv(int32_t index) {
  const CudaLayerWeights& layer = Layer(index);
  const auto at = static_cast<size_t>(index);
  RunNormed(residual_.data(), layer.attention_norm,
            {.weights = &layer.qkv,
             .epilogue = CudaEpilogue::kStoreBf16,
             .output = qkv_.data(),
             .rows = step_.shape.rows});
  RopeWrite(context(), {.qkv = qkv_.data(),
                        .row_stride = layer.qkv.n(),
                        .positions = step_.inputs.positions,
                        .slots = step_.inputs.slots,
                        .inverse_frequencies = inverse_frequencies_.data(),
                        .query_norm = layer.q_norm.data(),
                        .key_norm = layer.k_norm.data(),
                        .epsilon = parts_.config.rms_norm_eps,
                        .layer = ViewKvLayer(parts_.layout, step_.kv->layer_base[at]),
                        .rows = step_.shape.rows,
                        .num_heads = heads_.num_heads});
  if (IsWhole()) KvIsFinal(index);
}

void CudaTransformer::Attend(int32_t index) {
  const auto at = static_cast<size_t>(index);
  CudaAttentionArgs args{.queries = qkv_.data(),
                         .row_stride = Layer(index).qkv.n(),
                         .sequences = step_.inputs.sequences,
                         .block_tables = step_.inputs.block_tables,
                         .layer = ViewKvLayer(parts_.layout, step_.kv->layer_base[at]),
                         .output = activation_.data(),
                         .num_heads = heads_.num_heads,
                         .window = parts_.config.windows[at],
                         .scale = attention_scale_,
                         .prefers_wgmma = parts_.prefers_wgmma,
                         .scratch = attention_scratch_.data()};
  AttendToDecodeRows(args);
  const CudaStepShape::Sequences& prefill = step_.shape.prefill;
  if (prefill.count > 0) {
    args.sequences += step_.shape.decode.count;
    args.num_sequences = prefill.count;
    args.max_rows = prefill.max_rows;
    args.max_positions = prefill.max_positions;
    PrefillAttention(context(), args);
  }
  linear_.Run(ResidualProduct(Layer(index).output, activation_.data()));
  SumResidualOfRanks();
  if (!IsWhole()) KvIsFinal(index);
}

// As many sequences at once as there is scratch for.
void CudaTransformer::AttendToDecodeRows(CudaAttentionArgs args) {
  const CudaStepShape::Sequences& decode = step_.shape.decode;
  const size_t bytes_of_one = DecodeAttentionScratchBytes(
      decode.max_rows, args.num_heads, parts_.config.head_dim, decode.max_positions);
  const size_t fit = bytes_of_one == 0 ? SIZE_MAX : attention_scratch_.bytes() / bytes_of_one;
  const auto at_once = static_cast<int32_t>(std::min(fit, static_cast<size_t>(decode.count)));
  args.max_rows = decode.max_rows;
  args.max_positions = decode.max_positions;
  for (int32_t begin = 0; begin < decode.count; begin += at_once) {
    args.num_sequences = std::min(at_once, decode.count - begin);
    DecodeAttention(context(), args);
    args.sequences += args.num_sequences;
  }
}

void CudaTransformer::FeedForward(int32_t index) {
  const CudaLayerWeights& layer = Layer(index);
  const bool gates = GateUpEpilogue() == CudaEpilogue::kSiluMul;
  RunNormed(residual_.data(), layer.mlp_norm,
            {.weights = &layer.gate_up,
             .epilogue = GateUpEpilogue(),
             .output = gates ? gated_.data() : gate_up_.data(),
             .pairs = gate_up_.data(),
             .rows = step_.shape.rows});
  const CudaLinearArgs down = ResidualProduct(layer.down, gated_.data());
  const CudaSiluMulArgs silu_mul{
      .input = gate_up_.data(), .output = gated_.data(), .rows = step_.shape.rows, .width = inner_};
  if (gates) {
    linear_.Run(down);
  } else {
    linear_.Run(down, [&](const E4m3Rows* rounded) {
      if (rounded == nullptr) return SiluMul(context(), silu_mul);
      SiluMulToE4m3(context(), silu_mul, *rounded);
    });
  }
  SumResidualOfRanks();
}

// A product of e4m3 has its input rounded by the kernel that gates it.
CudaEpilogue CudaTransformer::GateUpEpilogue() const {
  return Layer(0).down.element() == WeightElement::kFp8 ? CudaEpilogue::kStoreBf16
                                                        : CudaEpilogue::kSiluMul;
}

CudaLinearArgs CudaTransformer::ResidualProduct(const CudaMatrix& weights, const Bf16* input) {
  return {.input = input,
          .weights = &weights,
          .epilogue = IntoResidual(),
          .output = residual_.data(),
          .rows = step_.shape.rows};
}

void CudaTransformer::ComputeLogits() {
  const int32_t rows = step_.shape.logit_rows;
  const int64_t row_bytes = int64_t{parts_.config.hidden_size} * int64_t{sizeof(float)};
  GatherRows(context(), {.input = reinterpret_cast<const std::byte*>(residual_.data()),
                         .indices = step_.inputs.logit_rows,
                         .output = reinterpret_cast<std::byte*>(logit_residual_.data()),
                         .row_bytes = row_bytes,
                         .rows = rows});
  RunNormed(logit_residual_.data(), parts_.weights.final_norm,
            {.weights = &parts_.weights.logits,
             .epilogue = CudaEpilogue::kStoreF32,
             .output = logits_.data(),
             .rows = rows});
  if (IsWhole()) return;
  parts_.ranks->AllGather(context(), logits_.data(), joined_logits_.data(),
                          Product(rows, parts_.weights.logits.n()));
  if (LeadsRanks()) OrderLogits();
}

absl::Status CudaTransformer::CopyBlocks(std::span<const KvBlockCopy> copies, const KvRegion& kv) {
  RETURN_IF_ERROR(context().MakeCurrent());
  RETURN_IF_ERROR(CheckRegion(kv));
  Upload(context(), kv.layer_base, &layer_bases_);
  while (!copies.empty()) {
    const size_t count = CountApart(copies, kCopiesAtOnce);
    CopyApart(copies.first(count), kv);
    copies = copies.subspan(count);
  }
  return context().Synchronize();
}

void CudaTransformer::CopyApart(std::span<const KvBlockCopy> copies, const KvRegion& kv) {
  Upload(context(), copies, &block_copies_);
  baton::CopyBlocks(context(), {.layers = layer_bases_.data(),
                                .copies = block_copies_.data(),
                                .block_bytes = kv.layout.BlockBytes(),
                                .num_layers = kv.layout.num_layers,
                                .num_copies = static_cast<int32_t>(copies.size())});
}

}  // namespace baton
