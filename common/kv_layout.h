// How a KV pool lies in memory, in terms that both the engine (which writes it) and kvtransfer
// (which moves it) understand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"

namespace baton {

class KvStagingFactory;

enum class KvDtype : uint8_t { kBf16 = 1, kF32 = 2, kInt8 = 3 };
std::string_view KvDtypeName(KvDtype dtype);  // "bf16"

// A row is one token's key, or value, of one head: [head_dim] of bf16 or f32. With int8:
// [head_dim] int8, then [ceil(head_dim / 32)] bf16, the scale of each 32: number = scale * int8.
inline constexpr int32_t kKvScaleGroup = 32;
constexpr int64_t KvRowBytes(KvDtype dtype, int32_t head_dim) {
  const int64_t numbers = head_dim;
  if (dtype != KvDtype::kInt8) return numbers * (dtype == KvDtype::kBf16 ? 2 : 4);
  return numbers + 2 * ((numbers + kKvScaleGroup - 1) / kKvScaleGroup);
}

// A block of one layer is contiguous: [2 (K, V), num_kv_heads, block_size] rows of `dtype`.
// Blocks of a layer follow one another in BlockId order, so a run of neighbouring blocks is one
// contiguous range.
struct KvLayout {
  int32_t num_layers = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t block_size = 16;  // tokens
  KvDtype dtype = KvDtype::kBf16;

  int64_t RowBytes() const { return KvRowBytes(dtype, head_dim); }
  int64_t BlockBytes() const {  // one block in one layer
    return int64_t{2} * num_kv_heads * block_size * RowBytes();
  }
  int64_t BytesPerToken() const {  // in all layers
    return int64_t{2} * num_kv_heads * RowBytes() * num_layers;
  }
  // Equal fingerprints may exchange KV without a copy plan. Mixes the fields above and
  // `model_fingerprint` (config and weights identity).
  uint64_t Fingerprint(uint64_t model_fingerprint) const;
  std::string ToString() const;

  friend bool operator==(const KvLayout&, const KvLayout&) = default;
};

// A view of a KV pool's memory. Does not own it: the engine's KvCache does, and outlives it.
struct KvRegion {
  KvLayout layout;
  int32_t num_blocks = 0;
  // [num_layers], each num_blocks * BlockBytes() long; in host memory, or that of the device which
  // computes.
  std::vector<std::byte*> layer_base;

  std::byte* Block(int32_t layer, BlockId block) const {
    return layer_base[static_cast<size_t>(layer)] + block.value() * layout.BlockBytes();
  }
};

// Copies one block to another, in every layer.
struct KvBlockCopy {
  BlockId from;
  BlockId to;
};

// In the order given. `from` and `to` of one copy differ.
void CopyKvBlocks(std::span<const KvBlockCopy> copies, const KvRegion& kv);

// All KV memory of a worker: a region for each process of its tensor-parallel group, each with as
// many heads, in the order of the heads; or the one region of a worker of one process. A block's id
// means the same block in all of them. Does not own the memory.
struct KvMemory {
  KvLayout layout;  // of all heads, each once
  int32_t num_blocks = 0;
  std::vector<KvRegion> regions;  // at least one
  // So many neighbouring regions have the same heads: one is read, all are written.
  int32_t copies = 1;
  // Null: the regions are host memory. Else they are of devices, and this is the way there.
  KvStagingFactory* staging = nullptr;
  // With `staging`: by way of device memory, which the transport reaches; else of pinned host
  // memory.
  bool staged_on_device = false;
};
// REQUIRES: regions of one layout and number of blocks, as many as `copies` divides.
KvMemory JoinKvRegions(std::vector<KvRegion> regions, int32_t copies = 1);

// The number of blocks that hold `tokens` tokens.
constexpr int32_t BlocksForTokens(int32_t tokens, int32_t block_size) {
  return tokens / block_size + (tokens % block_size != 0 ? 1 : 0);
}

}  // namespace baton
