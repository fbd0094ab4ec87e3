// The arrays that attention is timed on: ours, and a peer's on the same numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/gpu_roofline/sizes.h"
#include "common/kv_layout.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/attention.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/device_array.h"

namespace baton::roofline {

// As many sets of one shape's sequences as hold enough memory (see SetsFor), over one layer's cache
// in which each sequence has blocks of its own. Random numbers but for the output.
struct AttentionData {
  AttentionShape shape;
  KvLayout layout;
  int32_t sets = 0;
  int32_t blocks_per_set = 0;
  int64_t row_numbers = 0;              // of queries, keys and values
  DeviceArray<Bf16> queries;            // [sets, rows, row_numbers], of which heads * head_dim
  DeviceArray<Bf16> cache;              // [blocks, 2 (K, V), kv_heads, block_size, head_dim]
  DeviceArray<CudaSequence> sequences;  // [sets, shape.sequences]; rows count from their set's
  DeviceArray<int32_t> block_tables;    // [sets, blocks_per_set]
  DeviceArray<Bf16> output;             // [rows, heads, head_dim], of any set
  DeviceArray<std::byte> scratch;       // of our kernels, for rows of a token and any range

  int32_t rows() const { return shape.sequences * shape.tokens; }
  int32_t positions() const { return shape.context + shape.tokens; }
  float scale() const;
  const Bf16* QueriesOf(int32_t set) const {
    return queries.data() + int64_t{set} * rows() * row_numbers;
  }
};

// How our kernels compute it, where there are several ways.
inline constexpr int32_t kShortestKeyRangeLog2 = 7;
struct AttentionWay {
  bool wgmma = false;  // of prompts
  int32_t key_range_log2 = kKeyRangeLog2;
};

// UNIMPLEMENTED: our kernels have no such heads.
absl::StatusOr<AttentionData> MakeAttentionData(const CudaContext& context, const Sizes& sizes,
                                                const AttentionShape& shape);

// Enqueues our attention of one set: decode's kernel for rows of a token, else prefill's.
void RunAttention(const CudaContext& context, AttentionData* data, const AttentionWay& way,
                  int32_t set);

}  // namespace baton::roofline
