// Copies within device memory: rows by index, and blocks of the KV cache.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "common/ids.h"
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

struct KvSlotArgs {
  std::byte* layer = nullptr;  // the first byte of a layer's blocks, device
  std::byte* slot = nullptr;   // [blocks.size(), block_bytes], device
  int64_t block_bytes = 0;     // of one block in the layer
  std::span<const BlockId> blocks;
};

// Enqueue copies of blocks, wherever they lie, to a slot one after another, and back: one launch
// for each 480. The first error of the launches. REQUIRES: all aligned to 16 bytes.
cudaError_t GatherKvBlocks(cudaStream_t stream, const KvSlotArgs& args);
cudaError_t ScatterKvBlocks(cudaStream_t stream, const KvSlotArgs& args);

}  // namespace baton
