#include "bench/gpu_roofline/attention_data.h"

#include <cmath>
#include <utility>

#include "bench/gpu_roofline/timing.h"
#include "common/check.h"

namespace baton::roofline {
namespace {

constexpr int32_t kBlockSize = 16;

// The sequences of all sets, each in blocks of its own.
struct Batch {
  std::vector<CudaSequence> sequences;  // row_begin: within its set
  std::vector<int32_t> block_tables;
};
Batch MakeBatch(const AttentionShape& shape, int32_t sets, int32_t blocks_per_sequence) {
  Batch batch;
  int32_t num_blocks = 0;
  for (int32_t i = 0; i < sets * shape.sequences; ++i) {
    batch.sequences.push_back({.row_begin = i % shape.sequences * shape.tokens,
                               .num_rows = shape.tokens,
                               .start_position = shape.context,
                               .table_begin = num_blocks});
    for (int32_t block = 0; block < blocks_per_sequence; ++block) {
      batch.block_tables.push_back(num_blocks++);
    }
  }
  return batch;
}

}  // namespace

float AttentionData::scale() const { return 1.0f / std::sqrt(static_cast<float>(shape.head_dim)); }

absl::StatusOr<AttentionData> MakeAttentionData(const CudaContext& context, const Sizes& sizes,
                                                const AttentionShape& shape) {
  AttentionData data{.shape = shape,
                     .layout = {.num_layers = 1,
                                .num_kv_heads = shape.kv_heads,
                                .head_dim = shape.head_dim,
                                .block_size = kBlockSize},
                     .sets = SetsFor(sizes, Count(shape.ToWork()).bytes),
                     .row_numbers = int64_t{shape.heads + 2 * shape.kv_heads} * shape.head_dim};
  RETURN_IF_ERROR(CheckCudaAttention(context.info(), data.layout));
  const int32_t blocks_per_sequence = BlocksForTokens(data.positions(), kBlockSize);
  data.blocks_per_set = shape.sequences * blocks_per_sequence;
  const Batch batch = MakeBatch(shape, data.sets, blocks_per_sequence);
  const int64_t block_numbers = data.layout.BlockBytes() / int64_t{sizeof(Bf16)};
  ASSIGN_OR_RETURN(data.queries,
                   RandomBf16(context, 1, int64_t{data.rows()} * data.sets, data.row_numbers));
  ASSIGN_OR_RETURN(data.cache,
                   RandomBf16(context, 2, int64_t{data.blocks_per_set} * data.sets, block_numbers));
  ASSIGN_OR_RETURN(data.sequences, OnDevice(context, batch.sequences));
  ASSIGN_OR_RETURN(data.block_tables, OnDevice(context, batch.block_tables));
  const int64_t output_numbers = int64_t{data.rows()} * shape.heads * shape.head_dim;
  ASSIGN_OR_RETURN(data.output, DeviceArray<Bf16>::Create(static_cast<size_t>(output_numbers)));
  if (shape.tokens == 1) {
    ASSIGN_OR_RETURN(data.scratch, DeviceArray<std::byte>::Create(DecodeAttentionScratchBytes(
                                       data.rows(), shape.heads, shape.head_dim, data.positions(),
                                       kShortestKeyRangeLog2)));
  }
  return data;
}

void RunAttention(const CudaContext& context, AttentionData* data, const AttentionWay& way,
                  int32_t set) {
  const AttentionShape& shape = data->shape;
  std::byte* const cache = reinterpret_cast<std::byte*>(data->cache.data());
  const CudaAttentionArgs args{.queries = data->QueriesOf(set),
                               .row_stride = data->row_numbers,
                               .sequences = data->sequences.data() + int64_t{set} * shape.sequences,
                               .block_tables = data->block_tables.data(),
                               .layer = ViewKvLayer(data->layout, cache),
                               .output = data->output.data(),
                               .num_sequences = shape.sequences,
                               .num_heads = shape.heads,
                               .scale = data->scale(),
                               .key_range_log2 = way.key_range_log2,
                               .prefers_wgmma = way.wgmma,
                               .max_rows = shape.tokens,
                               .max_positions = data->positions(),
                               .scratch = data->scratch.data()};
  shape.tokens == 1 ? DecodeAttention(context, args) : PrefillAttention(context, args);
}

}  // namespace baton::roofline
