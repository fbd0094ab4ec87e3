// Causal attention over the paged KV cache, for prefill chunks and decode rows alike.
//
// Keys are taken in tiles of kAttentionTile absolute positions with an online softmax, in rising
// order, and each kKeyRange of them has a softmax of its own; those are merged in rising order. So
// the result of a row depends on its sequence alone: not on the chunk that it came in, the batch,
// the block table, or the number of threads, although threads may share the ranges of one row.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/ids.h"
#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/kernel_table.h"
#include "engine/kernels/kv_write.h"

namespace baton {

inline constexpr int32_t kAttentionTile = 64;  // key positions
inline constexpr int32_t kKeyRange = 512;      // key positions, a multiple of kAttentionTile
inline constexpr int32_t kAttentionRows = 64;  // query rows (token, head) in one unit of work
inline constexpr int32_t kMaxHeadDim = 256;    // and a multiple of 8
inline constexpr int32_t kMinKvBlockSize = 8;  // block sizes: a power of two, 8 to 256
inline constexpr int32_t kMaxKvBlockSize = 256;

// The rows of one sequence.
struct AttentionSequence {
  int32_t row_begin = 0;       // its first row in the batch
  int32_t num_rows = 0;        // tokens
  int32_t start_position = 0;  // of the first row
  std::span<const BlockId> block_table;
};

struct AttentionArgs {
  const float* queries = nullptr;  // [rows, num_heads, head_dim], rows `row_stride` floats apart
  int64_t row_stride = 0;
  std::span<const AttentionSequence> sequences;
  KvLayerView layer;       // the rows' own KV is already written
  void* output = nullptr;  // [rows, num_heads, head_dim] of the activation dtype
  int32_t num_heads = 0;   // a multiple of layer.num_kv_heads
  int32_t window = 0;      // a query sees the last `window` positions, itself included; 0: all
  float scale = 0.0f;      // of the scores, 1 / sqrt(head_dim)
  AlignedBuffer* partials = nullptr;  // scratch for plans that share out the ranges of a row
};

// One unit of work: some query tokens of one sequence, or one token of each of several sequences
// whose first KV blocks are the same; some heads of one KV head.
struct AttentionTask {
  int32_t sequence = 0;
  int32_t num_sequences = 1;     // consecutive ones
  int32_t shared_positions = 0;  // a multiple of kAttentionTile; 0 for one sequence
  int32_t token_begin = 0;       // within the sequence's rows
  int32_t token_end = 0;
  int32_t head_begin = 0;
  int32_t head_end = 0;
  int32_t key_range = -1;  // only keys of this one, the result goes to `partial`; -1: all, whole
  int32_t partial = -1;
};

// What follows once the tasks of a row's ranges are done.
struct AttentionMerge {
  AttentionTask task;  // as if it were whole
  int32_t first_partial = 0;
  int32_t num_partials = 0;  // of rising ranges
};

struct AttentionPlan {
  std::vector<AttentionTask> tasks;
  std::vector<AttentionMerge> merges;
  int32_t num_partials = 0;
  int32_t rows_of_partial = 0;  // at most
};

// Puts sequences that share KV blocks side by side, so that a plan finds them.
void OrderForAttention(std::span<AttentionSequence> sequences);

struct AttentionShape {
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t block_size = 0;
  int32_t num_threads = 1;
};
// Cuts a step's attention into units of work; the same for all layers. Refills `plan`, keeping its
// memory. Decode rows of neighbours that share whole tiles are taken together, which reads those
// once, as long as there is work for all threads. A decode row so long that threads would wait for
// its end is cut into the ranges of its keys.
void PlanAttention(std::span<const AttentionSequence> sequences, const AttentionShape& shape,
                   AttentionPlan* plan);

size_t AttentionScratchBytes(int32_t head_dim);
size_t AttentionPartialBytes(int32_t num_rows, int32_t head_dim);

void PagedAttention(const OpContext& context, const AttentionArgs& args, const AttentionPlan& plan);

}  // namespace baton
