#include "bench/gpu_roofline/sizes.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/model/model_parts.h"

namespace baton::roofline {
namespace {

// How many times the L2 cache is filled before an array is used again.
constexpr size_t kTimesL2 = 4;

StepShape Decode(int32_t sequences, int32_t context, double target_ms = 0) {
  return {.name = absl::StrCat("decode ", sequences, " at ", Grouped(context)),
          .sequences = sequences,
          .context = context,
          .tokens = 1,
          .target_ms = target_ms};
}
StepShape Prefill(int32_t tokens, double target_ms = 0) {
  return {.name = absl::StrCat("prefill ", Grouped(tokens)),
          .sequences = 1,
          .tokens = tokens,
          .target_ms = target_ms};
}

AttentionShape Attention(const StepShape& step, int32_t heads, int32_t kv_heads, int32_t head_dim) {
  return {.name = absl::StrCat(step.name, ", ", heads, "/", kv_heads, " heads of ", head_dim),
          .sequences = step.sequences,
          .context = step.context,
          .tokens = step.tokens,
          .heads = heads,
          .kv_heads = kv_heads,
          .head_dim = head_dim};
}

std::vector<MatrixShapes> MatricesOf(const DecoderSizes& d, const std::vector<int32_t>& rows,
                                     const std::vector<int32_t>& logit_rows) {
  const auto q = static_cast<int32_t>(d.QSize());
  const auto kv = static_cast<int32_t>(d.KvSize());
  return {{"qkv", q + 2 * kv, d.hidden, CudaEpilogue::kStoreBf16, rows},
          {"output", d.hidden, q, CudaEpilogue::kAddToF32, rows},
          {"gate_up", 2 * d.intermediate, d.hidden, CudaEpilogue::kStoreBf16, rows,
           /*is_gated=*/true},
          {"down", d.hidden, d.intermediate, CudaEpilogue::kAddToF32, rows},
          {"logits", d.vocab, d.hidden, CudaEpilogue::kStoreF32, logit_rows}};
}

void FillFull(Sizes* sizes, int64_t l2_bytes) {
  sizes->steps = {Decode(1, 1024, 6.0), Decode(8, 1024), Decode(64, 2048, 13.0),
                  Prefill(2048, 52.0), Prefill(8192, 235.0)};
  for (const StepShape& step : {Decode(1, 1024), Decode(1, 8192), Decode(8, 4096), Decode(64, 2048),
                                Prefill(512), Prefill(2048), Prefill(8192)}) {
    sizes->attention.push_back(Attention(step, 32, 8, 128));
  }
  for (const StepShape& step : {Decode(64, 2048), Prefill(2048), Prefill(8192)}) {
    sizes->attention.push_back(Attention(step, 32, 8, 64));
    sizes->attention.push_back(Attention(step, 32, 32, 96));
    sizes->attention.push_back(Attention(step, 16, 8, 256));
  }
  sizes->matrices =
      MatricesOf(sizes->decoder, {1, 8, 64, 256, 2048, 8192}, /*logit_rows=*/{1, 8, 64, 256});
  sizes->op_rows = {64, 2048, 8192};
  sizes->rows_of_target = 2048;
  sizes->sampled_rows = {1, 64};
  sizes->copied_blocks = {16, 256};
  sizes->copy_bytes = size_t{4} << 30;
  sizes->large_product = 8192;
  sizes->upload_bytes = int64_t{1} << 30;
  sizes->warm_up_ms = 300;
  sizes->repeats = 15;
  sizes->sample_ms = 2.0;
  sizes->flushed_bytes = kTimesL2 * static_cast<size_t>(l2_bytes);
}

// Every path once.
void FillQuick(Sizes* sizes) {
  const DecoderSizes& d = sizes->decoder;
  sizes->steps = {Decode(1, 20, 6.0), Decode(3, 33), Prefill(24, 52.0)};
  for (const StepShape& step : {Decode(2, 40), Prefill(24)}) {
    sizes->attention.push_back(Attention(step, d.heads, d.kv_heads, d.head_dim));
  }
  sizes->attention.push_back(Attention(Prefill(20), 2, 1, 128));
  sizes->matrices = MatricesOf(d, {1, 20}, {1});
  sizes->op_rows = {2, 20};
  sizes->rows_of_target = 20;
  sizes->sampled_rows = {2};
  sizes->copied_blocks = {3};
  sizes->copy_bytes = 64 << 10;
  sizes->large_product = 64;
  sizes->upload_bytes = 64 << 10;
  sizes->tunes_steps = false;
  sizes->warm_up_ms = 0;
  sizes->repeats = 2;
  sizes->sample_ms = 0;
  sizes->flushed_bytes = 8 << 10;
}

}  // namespace

absl::StatusOr<Sizes> MakeSizes(const std::string& config_path, bool quick, int64_t l2_bytes) {
  ASSIGN_OR_RETURN(const ModelConfig config, LoadConfig({.config_path = config_path}));
  Sizes sizes{.config_path = config_path,
              .decoder = {.hidden = config.hidden_size,
                          .intermediate = config.intermediate_size,
                          .layers = config.num_layers,
                          .vocab = config.vocab_size,
                          .heads = config.num_heads,
                          .kv_heads = config.num_kv_heads,
                          .head_dim = config.head_dim}};
  if (quick) {
    FillQuick(&sizes);
  } else {
    FillFull(&sizes, l2_bytes);
  }
  return sizes;
}

}  // namespace baton::roofline
