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

// A slot has blocks of all heads: [blocks.size(), 2 (K, V), parts, heads of a part …]; a part is
// what one region has of them. Of several regions with the same heads one is read, all are written.
inline constexpr size_t kMaxKvRegions = 64;
struct KvSlotArgs {
  // [at most kMaxKvRegions], host: the first byte of a layer's blocks in each region, device, or
  // memory that the device reaches. The regions of a part are neighbours.
  std::span<std::byte* const> layers;
  size_t copies = 1;          // regions of each part
  std::byte* slot = nullptr;  // device
  int64_t block_bytes = 0;    // of one block in the layer of one region
  std::span<const BlockId> blocks;
};

// Enqueue copies of blocks, wherever they lie, to a slot one after another, and back: one launch
// for each 480, for all regions. The first error of the launches. REQUIRES: all aligned to 16
// bytes; with several parts, half of a block too.
cudaError_t GatherKvBlocks(cudaStream_t stream, const KvSlotArgs& args);
cudaError_t ScatterKvBlocks(cudaStream_t stream, const KvSlotArgs& args);

}  // namespace baton
