// Writes keys and values of a step into the paged KV cache.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/ids.h"
#include "common/kv_layout.h"
#include "engine/kernels/kernel_table.h"

namespace baton {

// Where one token's KV goes.
struct KvSlot {
  BlockId block;
  int32_t offset = 0;  // token within the block
};

// One layer of the cache: blocks of [2 (K, V), num_kv_heads, block_size] rows, see KvRowBytes. The
// dtype is int8, or what the kernels were chosen for: bf16, in f32 mode f32.
struct KvLayerView {
  std::byte* base = nullptr;
  int32_t num_kv_heads = 0;
  int32_t block_size = 0;
  int32_t head_dim = 0;
  KvDtype dtype = KvDtype::kBf16;
  int64_t row_bytes = 0;
  int64_t block_bytes = 0;
};
// `layer`: the first byte of its blocks.
KvLayerView ViewKvLayer(const KvLayout& layout, std::byte* layer);

struct KvWriteArgs {
  const float* keys = nullptr;    // [rows, num_kv_heads, head_dim], rows `row_stride` floats apart
  const float* values = nullptr;  // as keys
  int64_t row_stride = 0;
  const KvSlot* slots = nullptr;  // [rows], all different
  KvLayerView layer;
  int32_t rows = 0;
};

void KvWrite(const OpContext& context, const KvWriteArgs& args);

}  // namespace baton
