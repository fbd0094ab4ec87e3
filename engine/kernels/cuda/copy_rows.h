// Copies within device memory: rows by index, and blocks of the KV cache.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/kv_layout.h"
#include "engine/kernels/cuda/context.h"

namespace baton {

struct GatherRowsArgs {
  const std::byte* input = nullptr;  // rows of `row_bytes`, device
  const int32_t* indices = nullptr;  // [rows], device
  std::byte* output = nullptr;       // [rows] rows of `row_bytes`, device: row i is indices[i]
  int64_t row_bytes = 0;
  int32_t rows = 0;
};

void GatherRows(const CudaContext& context, const GatherRowsArgs& args);

// No block is written that another copy reads or writes.
struct CopyBlocksArgs {
  std::byte* const* layers = nullptr;   // [num_layers], device: the first byte of a layer's blocks
  const KvBlockCopy* copies = nullptr;  // [num_copies], device
  int64_t block_bytes = 0;              // of one block in one layer
  int32_t num_layers = 0;
  int32_t num_copies = 0;
};

// REQUIRES: layers and blocks aligned to 16 bytes.
void CopyBlocks(const CudaContext& context, const CopyBlocksArgs& args);

}  // namespace baton
