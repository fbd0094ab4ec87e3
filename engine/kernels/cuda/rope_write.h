// What happens to the queries, keys and values of a step before attention, in one pass: the norm of
// q and k heads (Qwen3), rotary embedding in Hugging Face's "rotate half" form, and the write into
// the paged KV cache.
//
// Of what engine/kernels/rms_norm.h (HeadNorm), rope.h and kv_write.h describe, in f32 between the
// bf16 input and the bf16 results.
#pragma once

#include <cstdint>

#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/kv_write.h"

namespace baton {

struct RopeWriteArgs {
  // [rows, num_heads + 2 * num_kv_heads, head_dim] bf16, device: queries, keys, values; rows
  // `row_stride` numbers apart. Queries are rotated in place; keys and values stay as they are.
  Bf16* qkv = nullptr;
  int64_t row_stride = 0;
  const int32_t* positions = nullptr;          // [rows], device
  const KvSlot* slots = nullptr;               // [rows], device; a negative block: not written
  const float* inverse_frequencies = nullptr;  // [head_dim / 2], device
  const float* query_norm = nullptr;           // [head_dim], device; null: no norm of queries
  const float* key_norm = nullptr;             // [head_dim], device; null: no norm of keys
  float epsilon = 0.0f;                        // of the norms
  KvLayerView layer;                           // bf16; base: device
  int32_t rows = 0;
  int32_t num_heads = 0;  // of queries
};

// REQUIRES: qkv and the cache aligned to 16 bytes, row_stride and head_dim multiples of 8, head_dim
// at most kMaxHeadDim.
void RopeWrite(const CudaContext& context, const RopeWriteArgs& args);

}  // namespace baton
