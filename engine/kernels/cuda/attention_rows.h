// Which query rows a thread block of attention works on, which keys those see, and where their
// results go. For .cu files.
//
// Rows of a sequence that share a KV head are numbered (token, head of the group), heads fastest,
// so that a tile of 16 or 64 of them is full whatever the size of the group.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "engine/kernels/cuda/attention.h"
#include "engine/kernels/cuda/ptx.h"
#include "engine/kernels/paged_attention.h"

namespace baton {

inline constexpr int32_t kAttentionThreads = 128;
inline constexpr int32_t kAttentionWarps = kAttentionThreads / kWarpSize;
inline constexpr int32_t kMmaRows = 16;

// Calls `call` with the head dim as a constant; false: the kernels do not have it.
template <typename Call>
bool WithHeadDim(int32_t head_dim, const Call& call) {
  switch (head_dim) {
    case 64:
      call(std::integral_constant<int32_t, 64>());
      return true;
    case 96:
      call(std::integral_constant<int32_t, 96>());
      return true;
    case 128:
      call(std::integral_constant<int32_t, 128>());
      return true;
    case 256:
      call(std::integral_constant<int32_t, 256>());
      return true;
    default:
      return false;
  }
}

// Tiles of `tile_rows` that `tokens` of one KV head make.
__host__ __device__ inline int32_t RowTiles(const CudaAttentionArgs& args, int32_t tokens,
                                            int32_t tile_rows) {
  return (tokens * (args.num_heads / args.layer.num_kv_heads) + tile_rows - 1) / tile_rows;
}

// The first position that a row at `position` sees.
__device__ inline int32_t FirstKey(const CudaAttentionArgs& args, int32_t position) {
  return args.window == 0 ? 0 : max(0, position - args.window + 1);
}

// The range that a position is in, and where a range begins.
__host__ __device__ inline int32_t RangeOf(const CudaAttentionArgs& args, int32_t position) {
  return position >> args.key_range_log2;
}
__device__ inline int32_t RangeBegin(const CudaAttentionArgs& args, int32_t range) {
  return range << args.key_range_log2;
}

// Positions [first, last]; none if last < first.
struct KeyBounds {
  int32_t first = 0;
  int32_t last = -1;
};

// A tile of rows, of one sequence and one KV head.
class RowTile {
 public:
  __device__ RowTile(const CudaAttentionArgs& args, const CudaSequence& sequence, int32_t kv_head,
                     int32_t begin)
      : args_(args),
        sequence_(sequence),
        group_(args.num_heads / args.layer.num_kv_heads),
        kv_head_(kv_head),
        begin_(begin) {}

  __device__ const CudaSequence& sequence() const { return sequence_; }
  __device__ int32_t kv_head() const { return kv_head_; }
  __device__ int32_t begin() const { return begin_; }

  // `row`: within the tile. Rows behind the sequence's last see nothing.
  __device__ bool Has(int32_t row) const { return begin_ + row < sequence_.num_rows * group_; }
  __device__ int32_t Token(int32_t row) const { return (begin_ + row) / group_; }
  __device__ int32_t Head(int32_t row) const { return kv_head_ * group_ + (begin_ + row) % group_; }
  __device__ int32_t Position(int32_t row) const { return sequence_.start_position + Token(row); }
  // The last key that the row sees; -1: there is no such row.
  __device__ int32_t LastKey(int32_t row) const { return Has(row) ? Position(row) : -1; }
  // What any of the first `count` rows sees.
  __device__ KeyBounds AllBounds(int32_t count) const {
    const int32_t last_token = min(Token(count - 1), sequence_.num_rows - 1);
    return {.first = FirstKey(args_, Position(0)), .last = sequence_.start_position + last_token};
  }

  __device__ const Bf16* Query(int32_t row) const {
    return args_.queries + (sequence_.row_begin + Token(row)) * args_.row_stride +
           int64_t{Head(row)} * args_.layer.head_dim;
  }
  __device__ Bf16* Output(int32_t row) const {
    const int64_t batch_row = sequence_.row_begin + Token(row);
    return args_.output + (batch_row * args_.num_heads + Head(row)) * args_.layer.head_dim;
  }

 private:
  const CudaAttentionArgs& args_;
  const CudaSequence sequence_;
  const int32_t group_;
  const int32_t kv_head_;
  const int32_t begin_;
};

// Of a thread block whose grid is [row tiles, KV heads, sequences]; begins below 0: none is left.
__device__ __forceinline__ RowTile RowsOfBlock(const CudaAttentionArgs& args, int32_t tile_rows) {
  const CudaSequence sequence = args.sequences[blockIdx.z];
  // The last rows have the most keys: long work should start early.
  const int32_t tiles = RowTiles(args, sequence.num_rows, tile_rows);
  return RowTile(args, sequence, static_cast<int32_t>(blockIdx.y),
                 (tiles - 1 - static_cast<int32_t>(blockIdx.x)) * tile_rows);
}

}  // namespace baton
