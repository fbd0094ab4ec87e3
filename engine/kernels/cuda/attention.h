// Causal attention over the paged KV cache on the device: see paged_attention.h for what it
// computes and for kKeyRange, whose partial softmaxes are merged in rising order here as well.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/kv_write.h"

namespace baton {

// The rows of one sequence, as the device sees it.
struct CudaSequence {
  int32_t row_begin = 0;       // its first row in the batch
  int32_t num_rows = 0;        // tokens
  int32_t start_position = 0;  // of the first row
  int32_t table_begin = 0;     // of its blocks in `block_tables`
};

struct CudaAttentionArgs {
  const Bf16* queries = nullptr;  // [rows, num_heads, head_dim] rotated, rows `row_stride` apart
  int64_t row_stride = 0;         // numbers
  const CudaSequence* sequences = nullptr;  // [num_sequences], device
  const int32_t* block_tables = nullptr;    // block ids of all sequences, one after another, device
  KvLayerView layer;                        // base: device
  Bf16* output = nullptr;                   // [rows, num_heads, head_dim]
  int32_t num_sequences = 0;
  int32_t num_heads = 0;
  int32_t window = 0;
  float scale = 0.0f;
  // What shapes the launch, known on the host: upper bounds of the sequences' values.
  int32_t max_rows = 0;       // of one sequence
  int32_t max_positions = 0;  // start_position + num_rows
  std::byte* scratch = nullptr;  // AttentionScratchBytes, device
};

// Sequences of one row each: reads each KV row once for all heads of its group, splits long
// sequences over the device.
void DecodeAttention(const CudaContext& context, const CudaAttentionArgs& args);
// Sequences of any number of rows, in tiles of rows by tensor cores.
void PrefillAttention(const CudaContext& context, const CudaAttentionArgs& args);

// Of DecodeAttention at most.
size_t DecodeAttentionScratchBytes(int32_t num_sequences, int32_t num_heads, int32_t head_dim,
                                   int32_t max_positions);

}  // namespace baton
