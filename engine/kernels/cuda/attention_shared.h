// Tiles of queries, keys and values in shared memory, and how they come there. For .cu files.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "engine/kernels/cuda/attention_rows.h"
#include "engine/kernels/cuda/ptx.h"

namespace baton {

inline constexpr int32_t kChunk = 8;  // numbers in 16 bytes: what one thread copies at once

// A tile [rows, kHeadDim] in shared memory. Its rows are made of chunks; any 8 rows that follow one
// another keep the same chunk in 8 different groups of banks, so that reading an 8x8 matrix meets
// no conflict: the chunk's number is turned by bits of the row's.
template <int32_t kHeadDim>
struct TileShape {
  static constexpr int32_t kChunks = kHeadDim / kChunk;
  static_assert(kChunks % 4 == 0);
  static constexpr int32_t kKvNumbers = kAttentionTile * kHeadDim;
  // Rows of an odd number of 64 bytes already alternate between the halves of the banks.
  static constexpr int32_t kTurns = kChunks % 8 == 0 ? 8 : 4;
  static constexpr int32_t kRowsOfTurn = 8 / kTurns;
  // How the threads of a block share out copying: kTurns of them side by side in one row.
  static constexpr int32_t kRowsAtOnce = kAttentionThreads / kTurns;
};

// One row of a tile from some chunk on, 0 or 1, and the rows 8, 16, .. behind it. What is the same
// for all lanes is kept out of it, so that one register serves many addresses.
template <int32_t kHeadDim>
class SharedRow {
 public:
  __device__ __forceinline__ explicit SharedRow(int32_t row, int32_t first_chunk = 0)
      : first_((row * Shape::kChunks + row / Shape::kRowsOfTurn % Shape::kTurns) ^ first_chunk) {}

  // The same row. The compiler does not know that tiles begin at even positions: else it would take
  // all addresses of a tile out of the loop over tiles, into more registers than there are.
  __device__ __forceinline__ SharedRow OfTile(int32_t begin) const {
    SharedRow row = *this;
    row.first_ ^= begin & 1;
    return row;
  }

  // Where chunk first_chunk + chunk lies, in numbers. REQUIRES: `chunk` is even or first_chunk 0;
  // `more_rows` is a multiple of 8.
  __device__ __forceinline__ int32_t Offset(int32_t chunk, int32_t more_rows = 0) const {
    const int32_t turned = first_ ^ (chunk % Shape::kTurns);
    return (turned + chunk / Shape::kTurns * Shape::kTurns + more_rows * Shape::kChunks) * kChunk;
  }

 private:
  using Shape = TileShape<kHeadDim>;
  int32_t first_;
};

// Where this thread's first chunk of a row lies, in bytes.
template <int32_t kHeadDim>
__device__ __forceinline__ uint32_t OwnChunk() {
  return threadIdx.x % TileShape<kHeadDim>::kTurns * kChunk * sizeof(Bf16);
}

// Copies a row to where this thread's first row of a tile lies, `more_rows` further on, or zeros:
// this thread's chunks, the first of which is at `from`.
template <int32_t kHeadDim>
__device__ __forceinline__ void CopyRow(const std::byte* from, bool valid, int32_t more_rows,
                                        Bf16* tile) {
  using Shape = TileShape<kHeadDim>;
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  const SharedRow<kHeadDim> row(thread / Shape::kTurns);
  Bf16* target = tile + row.Offset(thread % Shape::kTurns);
#pragma unroll
  for (int32_t i = 0; i < Shape::kChunks; i += Shape::kTurns) {
    CpAsync16(target + (more_rows * Shape::kChunks + i) * kChunk, from + i * kChunk * sizeof(Bf16),
              valid);
  }
}

// By all threads of the block; rows that the tile has not become zeros.
template <int32_t kHeadDim, int32_t kRows>
__device__ __forceinline__ void CopyQueries(const RowTile& rows, Bf16* target) {
  using Shape = TileShape<kHeadDim>;
#pragma unroll
  for (int32_t begin = 0; begin < kRows; begin += Shape::kRowsAtOnce) {
    const int32_t row = begin + static_cast<int32_t>(threadIdx.x) / Shape::kTurns;
    if (kRows < Shape::kRowsAtOnce && row >= kRows) return;
    const bool valid = rows.Has(row);
    const auto* query = reinterpret_cast<const std::byte*>(rows.Query(valid ? row : 0));
    CopyRow<kHeadDim>(query + OwnChunk<kHeadDim>(), valid, begin, target);
  }
}

// The keys and values of a tile of rows, as they lie in the cache.
class KvSource {
 public:
  // Positions outside `bounds` are taken for zeros.
  __device__ KvSource(const CudaAttentionArgs& args, const RowTile& rows, KeyBounds bounds)
      : layer_(args.layer),
        kv_head_(rows.kv_head()),
        tables_(args.block_tables),
        table_begin_(static_cast<uint32_t>(rows.sequence().table_begin)),
        block_shift_(Log2(args.layer.block_size)),
        bounds_(bounds) {}

  // Of a row of `kRowBytes` that the cache holds for a position, from `offset` on.
  struct Row {
    const std::byte* data;
    bool valid;  // false: zeros; `data` is not to be read
  };
  // Keys (part 0) or values (part 1) of positions kStep apart, the first at `position`.
  template <uint32_t kRowBytes, int32_t kStep, int32_t kCount>
  __device__ __forceinline__ void Find(int32_t position, int32_t part, uint32_t offset,
                                       Row (&rows)[kCount]) const {
    const int32_t first_row = (part * layer_.num_kv_heads + kv_head_) << block_shift_;
    // A block is shorter than 4 GiB.
    const auto block_bytes = static_cast<uint32_t>(layer_.block_bytes);
    const uint32_t first = static_cast<uint32_t>(first_row) * kRowBytes + offset;
    const auto base = reinterpret_cast<uintptr_t>(layer_.base);
    // All blocks are asked for before any is used: else each would be waited for by itself. Where
    // nobody sees a position, the nearest one's that somebody does.
    uint32_t blocks[kCount];
#pragma unroll
    for (int32_t i = 0; i < kCount; ++i) {
      const int32_t inside = min(max(position + i * kStep, bounds_.first), bounds_.last);
      const uint32_t index = table_begin_ + (static_cast<uint32_t>(inside) >> block_shift_);
      blocks[i] = static_cast<uint32_t>(tables_[index]);
    }
#pragma unroll
    for (int32_t i = 0; i < kCount; ++i) {
      const int32_t at = position + i * kStep;
      const auto row = static_cast<uint32_t>(at & (layer_.block_size - 1));
      rows[i].data = reinterpret_cast<const std::byte*>(
          MadWide(blocks[i], block_bytes, base + (row * kRowBytes + first)));
      rows[i].valid = at >= bounds_.first && at <= bounds_.last;
    }
  }

  // Keys or values of the tile from position `begin`. By all threads of the block.
  template <int32_t kHeadDim>
  __device__ __forceinline__ void CopyTile(int32_t begin, int32_t part, Bf16* target) const {
    using Shape = TileShape<kHeadDim>;
    constexpr int32_t kStep = Shape::kRowsAtOnce;
    const int32_t own = begin + static_cast<int32_t>(threadIdx.x) / Shape::kTurns;
    Row rows[kAttentionTile / kStep];
    Find<kHeadDim * sizeof(Bf16), kStep>(own, part, OwnChunk<kHeadDim>(), rows);
#pragma unroll
    for (int32_t i = 0; i < kAttentionTile / kStep; ++i) {
      CopyRow<kHeadDim>(rows[i].data, rows[i].valid, i * kStep, target);
    }
  }

 private:
  static __device__ int32_t Log2(int32_t power) { return 31 - __clz(power); }

  const KvLayerView& layer_;
  const int32_t kv_head_;
  const int32_t* tables_;
  const uint32_t table_begin_;
  const int32_t block_shift_;
  const KeyBounds bounds_;
};

// Keys and values of rising tiles, in turn, through kSlots places in shared memory: all but one of
// them are on their way while one is used. Where something lies follows from its position, so that
// there is nothing to keep count of.
template <int32_t kHeadDim, int32_t kSlots>
class KvRing {
 public:
  static_assert(kSlots == 2 || kSlots == 4 || kSlots == 8);
  static constexpr int32_t kNumbers = kSlots * TileShape<kHeadDim>::kKvNumbers;

  // Tiles that begin before position `end`. slots: [kNumbers].
  __device__ __forceinline__ KvRing(const KvSource& source, int32_t end, Bf16* slots)
      : source_(source), slots_(slots), end_(end) {}

  // Room for a tile that is free until the first Next.
  __device__ __forceinline__ Bf16* Free(int32_t begin) const { return Slot(begin, kSlots - 1); }
  // Asks for the first keys and values. What the calling thread copied before and committed has
  // come when it returns; a barrier must follow.
  __device__ __forceinline__ void Start(int32_t begin) const {
#pragma unroll
    for (int32_t item = 0; item < kSlots - 1; ++item) Ask(begin, item);
    CpAsyncWait<kSlots - 1>();
  }
  // The keys (part 0), then the values of each tile in turn, until Next is called again. By all
  // threads of the block; a barrier to them.
  template <int32_t kPart>
  __device__ __forceinline__ const Bf16* Next(int32_t tile) const {
    CpAsyncWait<kSlots - 2>();
    __syncthreads();
    Ask(tile, kPart + kSlots - 1);
    return Slot(tile, kPart);
  }

 private:
  // `item` keys and values behind the keys of a tile.
  __device__ __forceinline__ Bf16* Slot(int32_t tile, int32_t item) const {
    const int32_t slot = (tile / kAttentionTile * 2 + item) % kSlots;
    return slots_ + slot * TileShape<kHeadDim>::kKvNumbers;
  }
  // A group behind the end is empty, so that waits can count.
  __device__ __forceinline__ void Ask(int32_t tile, int32_t item) const {
    const int32_t asked = tile + item / 2 * kAttentionTile;
    if (asked < end_) source_.template CopyTile<kHeadDim>(asked, item % 2, Slot(tile, item));
    CpAsyncCommit();
  }

  const KvSource& source_;
  Bf16* slots_;
  const int32_t end_;
};

}  // namespace baton
