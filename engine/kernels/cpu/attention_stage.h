// What one unit of attention works on, and how keys and values come out of their blocks. Internal
// linkage on purpose: see vec_avx512.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "engine/kernels/cpu/gemm_tile.h"
#include "engine/kernels/cpu/int8_kv_impl.h"
#include "engine/kernels/cpu/vec_math.h"
#include "engine/kernels/paged_attention.h"

namespace baton {
namespace {

// The softmax of some rows over some of their keys.
struct SoftmaxStates {
  float* output;  // [rows, padded_dim], weighted sum of values
  float* maxima;  // [rows], of the scores
  float* sums;    // [rows, lanes], of the weights
};

// Where the parts of one thread's scratch lie. M::A: queries and weights; M::B: keys and values.
template <typename M>
struct AttentionScratch {
  typename M::A* queries;  // [kAttentionRows, padded_dim]
  typename M::B* staging;  // [kAttentionTile, padded_dim]
  typename M::B* keys;     // [padded_dim / kStep, kAttentionTile, kStep]
  typename M::B* values;   // [kAttentionTile / kStep, padded_dim, kStep]
  float* scores;           // [kAttentionRows, kAttentionTile]
  typename M::A* weights;  // [kAttentionRows, kAttentionTile]
  SoftmaxStates range;     // of kAttentionRows over the range of keys at hand
  SoftmaxStates total;     // over all ranges before
};

// head_dim rounded up so that squares of lanes x lanes 32-bit units can be transposed.
template <typename M>
int32_t PaddedDim(int32_t head_dim) {
  constexpr int32_t kUnit = M::V::kLanes * M::kStep;
  return (head_dim + kUnit - 1) / kUnit * kUnit;
}

template <typename T>
T* TakeMemory(std::byte** memory, int64_t count) {
  T* part = reinterpret_cast<T*>(*memory);
  *memory += (count * static_cast<int64_t>(sizeof(T)) + kCacheLine - 1) / kCacheLine * kCacheLine;
  return part;
}

template <typename V>
SoftmaxStates LayOutStates(std::byte** memory, int32_t rows, int32_t padded_dim) {
  return {.output = TakeMemory<float>(memory, int64_t{rows} * padded_dim),
          .maxima = TakeMemory<float>(memory, rows),
          .sums = TakeMemory<float>(memory, int64_t{rows} * V::kLanes)};
}

template <typename M>
AttentionScratch<M> LayOutScratch(std::byte* memory, int32_t padded_dim) {
  using A = typename M::A;
  using B = typename M::B;
  return {.queries = TakeMemory<A>(&memory, int64_t{kAttentionRows} * padded_dim),
          .staging = TakeMemory<B>(&memory, int64_t{kAttentionTile} * padded_dim),
          .keys = TakeMemory<B>(&memory, int64_t{kAttentionTile} * padded_dim),
          .values = TakeMemory<B>(&memory, int64_t{kAttentionTile} * padded_dim),
          .scores = TakeMemory<float>(&memory, int64_t{kAttentionRows} * kAttentionTile),
          .weights = TakeMemory<A>(&memory, int64_t{kAttentionRows} * kAttentionTile),
          .range = LayOutStates<typename M::V>(&memory, kAttentionRows, padded_dim),
          .total = LayOutStates<typename M::V>(&memory, kAttentionRows, padded_dim)};
}

template <typename M>
struct AttentionWork {
  const AttentionArgs& args;
  const AttentionTask& task;
  AttentionScratch<M> scratch;
  int32_t padded_dim;
  int32_t heads;        // of the task
  int32_t rows_of_one;  // those of one sequence
  int32_t rows;         // (tokens of the task) * heads, token by token, sequence by sequence

  // `row`: of the task.
  const AttentionSequence& Sequence(int32_t row) const {
    const int32_t index = task.num_sequences == 1 ? 0 : row / heads;
    return args.sequences.data()[task.sequence + index];
  }
  int32_t Token(int32_t row) const {  // within its sequence's rows
    return task.token_begin + (task.num_sequences == 1 ? row / heads : 0);
  }
  // The row of a block where this task's keys (part 0) or values (part 1) begin.
  int64_t HeadRow(int32_t part) const {
    const int32_t kv_head = task.head_begin / (args.num_heads / args.layer.num_kv_heads);
    return int64_t{part * args.layer.num_kv_heads + kv_head} * args.layer.block_size;
  }
  int32_t Position(int32_t row) const { return Sequence(row).start_position + Token(row); }
  int64_t BatchRow(int32_t row) const { return Sequence(row).row_begin + Token(row); }
  int32_t FirstKey(int32_t row) const {
    const int32_t first = args.window == 0 ? 0 : Position(row) - args.window + 1;
    return first > 0 ? first : 0;
  }
  // Whether a window leaves the row any of a range of keys that begins before its position.
  bool Sees(int32_t row, int32_t range) const { return FirstKey(row) < (range + 1) * kKeyRange; }
};

// Copies `count` numbers, a multiple of 8, and zeros up to `padded`.
template <typename V, typename From, typename To>
void CopyRow(const From* from, int32_t count, int32_t padded, To* to) {
  int32_t i = 0;
  for (; i + V::kLanes <= count; i += V::kLanes) StoreAs<V>(to + i, LoadAs<V>(from + i));
  for (; i < count; ++i) StoreScalar(to + i, LoadScalar(from + i));
  for (; i < padded; ++i) StoreScalar(to + i, 0.0f);
}
template <typename V, typename Element>
void CopyRow(const Element* from, int32_t count, int32_t padded, Element* to) {
  int32_t i = 0;
  for (; i < count; i += 8) __builtin_memcpy(to + i, from + i, 8 * sizeof(Element));
  for (; i < padded; i += 8) __builtin_memset(to + i, 0, 8 * sizeof(Element));
}

template <typename V, typename Cache, typename To>
void ReadKvRow(const std::byte* row, int32_t head_dim, int32_t padded, To* to) {
  if constexpr (std::is_same_v<Cache, Int8Row>) {
    ReadInt8Row<V>(row, head_dim, padded, to);
  } else {
    CopyRow<V>(reinterpret_cast<const Cache*>(row), head_dim, padded, to);
  }
}

// Copies keys (part 0) or values (part 1) of positions [begin, begin + 64) into staging, block by
// block; positions from `end` on, which may be unwritten, become zeros.
template <typename Cache, typename M>
void Stage(const AttentionWork<M>& work, const BlockId* blocks, int32_t begin, int32_t end,
           int32_t part) {
  const KvLayerView& layer = work.args.layer;
  const int32_t head_dim = layer.head_dim;
  const int64_t head_row = work.HeadRow(part);
  const int32_t tile_end = end - begin < kAttentionTile ? end : begin + kAttentionTile;
  int32_t index = begin / layer.block_size;
  int32_t offset = begin - index * layer.block_size;
  typename M::B* target = work.scratch.staging;
  for (int32_t position = begin; position < tile_end; ++index, offset = 0) {
    const int32_t left = tile_end - position;
    const int32_t count = left < layer.block_size - offset ? left : layer.block_size - offset;
    const int64_t block = blocks[index].value();
    const std::byte* row =
        layer.base + block * layer.block_bytes + (head_row + offset) * layer.row_bytes;
    if (std::is_same_v<Cache, typename M::B> && head_dim == work.padded_dim) {
      __builtin_memcpy(target, row, static_cast<size_t>(count * layer.row_bytes));
      target += static_cast<int64_t>(count) * head_dim;
    } else {
      for (int32_t i = 0; i < count; ++i, row += layer.row_bytes, target += work.padded_dim) {
        ReadKvRow<typename M::V, Cache>(row, head_dim, work.padded_dim, target);
      }
    }
    position += count;
  }
  const auto* staged_end = work.scratch.staging + int64_t{kAttentionTile} * work.padded_dim;
  __builtin_memset(target, 0, static_cast<size_t>(staged_end - target) * sizeof(*target));
}

// Asks memory for what Stage will read next, a few lines at a time between other work.
template <typename M>
class StageAhead {
 public:
  // As Stage.
  StageAhead(const AttentionWork<M>& work, const BlockId* blocks, int32_t begin, int32_t end,
             int32_t part)
      : layer_(work.args.layer),
        head_row_(work.HeadRow(part)),
        block_(blocks + begin / layer_.block_size),
        offset_(begin % layer_.block_size),
        rows_left_(end - begin < kAttentionTile ? end - begin : kAttentionTile) {}

  // Of a whole tile, when asked for in so many turns.
  int32_t LinesPerTurn(int32_t turns) const {
    const auto lines = static_cast<int32_t>(kAttentionTile * layer_.row_bytes / kCacheLine);
    return lines / turns + 2;  // runs of rows begin and end within lines
  }
  void Ask(int32_t lines) {
    for (; lines > 0; --lines, next_ += kCacheLine) {
      if (next_ >= end_ && !NextBlock()) return;
      __builtin_prefetch(next_, 0, 3);
    }
  }

 private:
  bool NextBlock() {
    if (rows_left_ <= 0) return false;
    const int32_t room = layer_.block_size - offset_;
    const int32_t rows = rows_left_ < room ? rows_left_ : room;
    next_ = layer_.base + block_->value() * layer_.block_bytes +
            (head_row_ + offset_) * layer_.row_bytes;
    end_ = next_ + rows * layer_.row_bytes;
    rows_left_ -= rows;
    offset_ = 0;
    ++block_;
    return true;
  }

  const KvLayerView& layer_;
  const int64_t head_row_;
  const BlockId* block_;
  int32_t offset_;
  int32_t rows_left_;
  const std::byte* next_ = nullptr;
  const std::byte* end_ = nullptr;
};

// Into the layout of a tile's b; asks for memory meanwhile.
template <typename M>
void TransposeKeys(const AttentionWork<M>& work, StageAhead<M> ahead) {
  constexpr int kLanes = M::V::kLanes;
  const int32_t units = work.padded_dim / M::kStep;  // of 32 bits, in one key
  const auto* source = reinterpret_cast<const uint32_t*>(work.scratch.staging);
  auto* target = reinterpret_cast<uint32_t*>(work.scratch.keys);
  const int32_t lines = ahead.LinesPerTurn(kAttentionTile / kLanes * (units / kLanes));
  for (int32_t key = 0; key < kAttentionTile; key += kLanes) {
    for (int32_t unit = 0; unit < units; unit += kLanes) {
      M::V::Transpose(source + static_cast<int64_t>(key) * units + unit, units,
                      target + static_cast<int64_t>(unit) * kAttentionTile + key, kAttentionTile);
      ahead.Ask(lines);
    }
  }
}

}  // namespace
}  // namespace baton
