#include "engine/kernels/cuda/attention.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "bench/gpu_roofline/parts.h"
#include "bench/gpu_roofline/timing.h"
#include "common/check.h"

namespace baton::roofline {
namespace {

constexpr int32_t kBlockSize = 16;

// The sequences of all sets over one layer's cache, each in blocks of its own.
struct Batch {
  std::vector<CudaSequence> sequences;  // row_begin: within its set
  std::vector<int32_t> block_tables;
  int32_t num_blocks = 0;
};
Batch MakeBatch(const AttentionShape& shape, int32_t sets) {
  Batch batch;
  const int32_t blocks = BlocksForTokens(shape.context + shape.tokens, kBlockSize);
  for (int32_t i = 0; i < sets * shape.sequences; ++i) {
    batch.sequences.push_back({.row_begin = i % shape.sequences * shape.tokens,
                               .num_rows = shape.tokens,
                               .start_position = shape.context,
                               .table_begin = batch.num_blocks});
    for (int32_t block = 0; block < blocks; ++block) {
      batch.block_tables.push_back(batch.num_blocks++);
    }
  }
  return batch;
}

absl::StatusOr<std::vector<double>> TimeAttention(const CudaContext& context, const Sizes& sizes,
                                                  const AttentionShape& shape, bool wgmma) {
  const KvLayout layout{.num_layers = 1,
                        .num_kv_heads = shape.kv_heads,
                        .head_dim = shape.head_dim,
                        .block_size = kBlockSize};
  RETURN_IF_ERROR(CheckCudaAttention(context.info(), layout));
  const int32_t sets = SetsFor(sizes, Count(shape.ToWork()).bytes);
  const Batch batch = MakeBatch(shape, sets);
  const int32_t rows = shape.sequences * shape.tokens;
  const int64_t row_numbers = int64_t{shape.heads + 2 * shape.kv_heads} * shape.head_dim;
  const int64_t block_numbers = layout.BlockBytes() / int64_t{sizeof(Bf16)};
  ASSIGN_OR_RETURN(const auto queries, RandomBf16(context, 1, int64_t{rows} * sets, row_numbers));
  ASSIGN_OR_RETURN(auto cache, RandomBf16(context, 2, batch.num_blocks, block_numbers));
  ASSIGN_OR_RETURN(const auto sequences, OnDevice(context, batch.sequences));
  ASSIGN_OR_RETURN(const auto tables, OnDevice(context, batch.block_tables));
  ASSIGN_OR_RETURN(
      auto output,
      DeviceArray<Bf16>::Create(static_cast<size_t>(int64_t{rows} * shape.heads * shape.head_dim)));
  const int32_t positions = shape.context + shape.tokens;
  ASSIGN_OR_RETURN(auto scratch, DeviceArray<std::byte>::Create(DecodeAttentionScratchBytes(
                                     rows, shape.heads, shape.head_dim, positions)));
  CudaAttentionArgs args{.row_stride = row_numbers,
                         .block_tables = tables.data(),
                         .layer = ViewKvLayer(layout, reinterpret_cast<std::byte*>(cache.data())),
                         .output = output.data(),
                         .num_sequences = shape.sequences,
                         .num_heads = shape.heads,
                         .scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim)),
                         .prefers_wgmma = wgmma,
                         .max_rows = shape.tokens,
                         .max_positions = positions,
                         .scratch = scratch.data()};
  return TimeLaunches(context, sizes, sets, [&](int32_t set) {
    args.queries = queries.data() + int64_t{set} * rows * row_numbers;
    args.sequences = sequences.data() + int64_t{set} * shape.sequences;
    shape.tokens == 1 ? DecodeAttention(context, args) : PrefillAttention(context, args);
  });
}

}  // namespace

absl::Status MeasureAttention(const CudaContext& context, const Sizes& sizes, Recorder* recorder) {
  for (const AttentionShape& shape : sizes.attention) {
    Row row{.name = shape.name, .work = Count(shape.ToWork())};
    const bool has_wgmma = shape.tokens > 1 && HasWgmmaAttention(context.info(), shape.head_dim);
    if (has_wgmma) row.variant = "mma.sync";
    recorder->Add(row, TimeAttention(context, sizes, shape, /*wgmma=*/false));
    if (!has_wgmma) continue;
    row.variant = "wgmma";
    recorder->Add(row, TimeAttention(context, sizes, shape, /*wgmma=*/true));
  }
  return context.status();
}

}  // namespace baton::roofline
