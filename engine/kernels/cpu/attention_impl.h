// Paged attention of one unit of work. Internal linkage on purpose: see vec_avx512.h.
//
// Per tile of 64 key positions: keys are copied out of their blocks and transposed, so that both
// products are the GEMM's inner loop:
//   scores  [rows, 64]       = queries [rows, head_dim] * keys^T
//   output  [rows, head_dim] = output * correction + weights [rows, 64] * values
// Tiles that several sequences share are copied once, for the rows of all; each row still meets its
// tiles one by one in rising order, so sharing changes no bit.
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

inline constexpr float kNoScore = -__builtin_inff();
inline constexpr float kLowestMaximum = -1e30f;  // finite: its differences are never NaN

// Where the parts of one thread's scratch lie. M::A: queries and weights; M::B: keys and values.
template <typename M>
struct AttentionScratch {
  typename M::A* queries;  // [kAttentionRows, padded_dim]
  typename M::B* staging;  // [kAttentionTile, padded_dim]
  typename M::B* keys;     // [padded_dim / kStep, kAttentionTile, kStep]
  typename M::B* values;   // [kAttentionTile / kStep, padded_dim, kStep]
  float* scores;           // [kAttentionRows, kAttentionTile]
  typename M::A* weights;  // [kAttentionRows, kAttentionTile]
  float* output;           // [kAttentionRows, padded_dim]
  float* maxima;           // [kAttentionRows]
  float* sums;             // [kAttentionRows, lanes]
};

// head_dim rounded up so that squares of lanes x lanes 32-bit units can be transposed.
template <typename M>
int32_t PaddedDim(int32_t head_dim) {
  constexpr int32_t kUnit = M::V::kLanes * M::kStep;
  return (head_dim + kUnit - 1) / kUnit * kUnit;
}

template <typename M>
AttentionScratch<M> LayOutScratch(std::byte* memory, int32_t padded_dim) {
  AttentionScratch<M> scratch;
  auto take = [&memory](auto*& part, int64_t count) {
    part = reinterpret_cast<std::remove_reference_t<decltype(part)>>(memory);
    memory += (count * static_cast<int64_t>(sizeof(*part)) + 63) / 64 * 64;
  };
  take(scratch.queries, int64_t{kAttentionRows} * padded_dim);
  take(scratch.staging, int64_t{kAttentionTile} * padded_dim);
  take(scratch.keys, int64_t{kAttentionTile} * padded_dim);
  take(scratch.values, int64_t{kAttentionTile} * padded_dim);
  take(scratch.scores, int64_t{kAttentionRows} * kAttentionTile);
  take(scratch.weights, int64_t{kAttentionRows} * kAttentionTile);
  take(scratch.output, int64_t{kAttentionRows} * padded_dim);
  take(scratch.maxima, kAttentionRows);
  take(scratch.sums, int64_t{kAttentionRows} * M::V::kLanes);
  return scratch;
}

template <typename M, typename Cache>
struct AttentionWork {
  const AttentionArgs& args;
  const AttentionTask& task;
  AttentionScratch<M> scratch;
  int32_t padded_dim;
  int32_t heads;  // of the task
  int32_t rows;   // (tokens of the task) * heads, token by token, sequence by sequence

  // `row`: of the task.
  const AttentionSequence& Sequence(int32_t row) const {
    const int32_t index = task.num_sequences == 1 ? 0 : row / heads;
    return args.sequences.data()[task.sequence + index];
  }
  int32_t Token(int32_t row) const {  // within its sequence's rows
    return task.token_begin + (task.num_sequences == 1 ? row / heads : 0);
  }
  int32_t Position(int32_t row) const { return Sequence(row).start_position + Token(row); }
  int64_t BatchRow(int32_t row) const { return Sequence(row).row_begin + Token(row); }
  int32_t FirstKey(int32_t row) const {
    const int32_t first = args.window == 0 ? 0 : Position(row) - args.window + 1;
    return first > 0 ? first : 0;
  }
};

// output = a * b over whole matrices, in register tiles. columns: a multiple of the lanes.
template <typename M>
void Multiply(TileArgs args, int32_t rows, int32_t columns) {
  const auto* a = static_cast<const typename M::A*>(args.a);
  const auto* b = static_cast<const typename M::B*>(args.b);
  float* c = args.c;
  for (int32_t column = 0; column < columns;) {
    const int32_t left = (columns - column) / M::V::kLanes;
    const int32_t vectors = left < M::kMaxVectors ? left : M::kMaxVectors;
    for (int32_t row = 0; row < rows; row += M::kMaxRows) {
      const int32_t row_count = rows - row < M::kMaxRows ? rows - row : M::kMaxRows;
      args.a = a + row * args.a_stride;
      args.b = b + static_cast<int64_t>(column) * M::kStep;
      args.c = c + row * args.c_stride + column;
      FindTile<M>(row_count, vectors)(args);
    }
    column += vectors * M::V::kLanes;
  }
}

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

template <typename M, typename Cache>
void GatherQueries(const AttentionWork<M, Cache>& work) {
  const AttentionArgs& args = work.args;
  for (int32_t row = 0; row < work.rows; ++row) {
    const int64_t head = work.task.head_begin + row % work.heads;
    CopyRow<typename M::V>(
        args.queries + work.BatchRow(row) * args.row_stride + head * args.layer.head_dim,
        args.layer.head_dim, work.padded_dim,
        work.scratch.queries + static_cast<int64_t>(row) * work.padded_dim);
    work.scratch.maxima[row] = kLowestMaximum;
    M::V::Store(work.scratch.sums + row * M::V::kLanes, M::V::Zero());
    for (int32_t i = 0; i < work.padded_dim; ++i) {
      work.scratch.output[static_cast<int64_t>(row) * work.padded_dim + i] = 0.0f;
    }
  }
}

// Copies keys (part 0) or values (part 1) of positions [begin, begin + 64) into staging, block by
// block; positions from `end` on, which may be unwritten, become zeros.
template <typename M, typename Cache>
void Stage(const AttentionWork<M, Cache>& work, const BlockId* blocks, int32_t begin, int32_t end,
           int32_t part) {
  const KvLayerView& layer = work.args.layer;
  const int32_t head_dim = layer.head_dim;
  const int32_t kv_head = work.task.head_begin / (work.args.num_heads / layer.num_kv_heads);
  const int64_t head_row = int64_t{part * layer.num_kv_heads + kv_head} * layer.block_size;
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

template <typename M, typename Cache>
void TransposeKeys(const AttentionWork<M, Cache>& work) {
  constexpr int kLanes = M::V::kLanes;
  const int32_t units = work.padded_dim / M::kStep;  // of 32 bits, in one key
  const auto* source = reinterpret_cast<const uint32_t*>(work.scratch.staging);
  auto* target = reinterpret_cast<uint32_t*>(work.scratch.keys);
  for (int32_t key = 0; key < kAttentionTile; key += kLanes) {
    for (int32_t unit = 0; unit < units; unit += kLanes) {
      M::V::Transpose(source + static_cast<int64_t>(key) * units + unit, units,
                      target + static_cast<int64_t>(unit) * kAttentionTile + key, kAttentionTile);
    }
  }
}

// The softmax of one row's scores against what came before; returns the factor for earlier output.
template <typename M>
float SoftmaxRow(const AttentionScratch<M>& scratch, int32_t row, int32_t key_begin,
                 int32_t key_end, float scale) {
  using V = typename M::V;
  using F = typename V::F;
  constexpr int kVectors = kAttentionTile / V::kLanes;
  const float* scores = scratch.scores + row * kAttentionTile;
  F score[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    score[v] = V::Mul(V::Load(scores + v * V::kLanes), V::Set1(scale));
  }
  if (key_begin > 0 || key_end < kAttentionTile) {
    for (int v = 0; v < kVectors; ++v) {
      score[v] = V::KeepLanes(score[v], key_begin - v * V::kLanes, key_end - v * V::kLanes,
                              V::Set1(kNoScore));
    }
  }
  F maximum = score[0];
  for (int v = 1; v < kVectors; ++v) maximum = V::Max(maximum, score[v]);
  const float old_maximum = scratch.maxima[row];
  const float tile_maximum = V::ReduceMax(maximum);
  const float new_maximum = tile_maximum > old_maximum ? tile_maximum : old_maximum;
  const float correction =
      new_maximum == old_maximum ? 1.0f : ExpScalar<V>(old_maximum - new_maximum);
  F sum = V::Mul(V::Load(scratch.sums + row * V::kLanes), V::Set1(correction));
  for (int v = 0; v < kVectors; ++v) {
    const F weight = Exp<V>(V::Sub(score[v], V::Set1(new_maximum)));
    sum = V::Add(sum, weight);
    StoreAs<V>(scratch.weights + row * kAttentionTile + v * V::kLanes, weight);
  }
  V::Store(scratch.sums + row * V::kLanes, sum);
  scratch.maxima[row] = new_maximum;
  return correction;
}

// Rows [row_begin, row_end) of the task over the tile from `begin`, which lies in their sequences'
// blocks; positions from `end` on are not theirs.
template <typename M, typename Cache>
void AttendTile(const AttentionWork<M, Cache>& work, int32_t begin, int32_t end, int32_t row_begin,
                int32_t row_end) {
  using V = typename M::V;
  const AttentionScratch<M>& scratch = work.scratch;
  const BlockId* blocks = work.Sequence(row_begin).block_table.data();
  Stage(work, blocks, begin, end, 0);
  TransposeKeys(work);
  Multiply<M>({.a = scratch.queries + static_cast<int64_t>(row_begin) * work.padded_dim,
               .a_stride = work.padded_dim,
               .b = scratch.keys,
               .b_stride = int64_t{kAttentionTile} * M::kStep,
               .steps = work.padded_dim / M::kStep,
               .c = scratch.scores + static_cast<int64_t>(row_begin) * kAttentionTile,
               .c_stride = kAttentionTile},
              row_end - row_begin, kAttentionTile);
  for (int32_t row = row_begin; row < row_end; ++row) {
    const float correction = SoftmaxRow<M>(scratch, row, work.FirstKey(row) - begin,
                                           work.Position(row) + 1 - begin, work.args.scale);
    if (correction == 1.0f) continue;
    float* output = scratch.output + static_cast<int64_t>(row) * work.padded_dim;
    for (int32_t i = 0; i < work.padded_dim; i += V::kLanes) {
      V::Store(output + i, V::Mul(V::Load(output + i), V::Set1(correction)));
    }
  }
  Stage(work, blocks, begin, end, 1);
  Multiply<M>({.a = scratch.weights + static_cast<int64_t>(row_begin) * kAttentionTile,
               .a_stride = kAttentionTile,
               .b = M::Interleave(scratch.staging, work.padded_dim, scratch.values),
               .b_stride = int64_t{work.padded_dim} * M::kStep,
               .steps = kAttentionTile / M::kStep,
               .c = scratch.output + static_cast<int64_t>(row_begin) * work.padded_dim,
               .c_stride = work.padded_dim,
               .accumulate = true},
              row_end - row_begin, work.padded_dim);
}

// Divides each row by the sum of its weights, and writes it out.
template <typename M, typename Cache, typename Activation>
void WriteOutput(const AttentionWork<M, Cache>& work) {
  using V = typename M::V;
  const AttentionArgs& args = work.args;
  const int32_t head_dim = args.layer.head_dim;
  for (int32_t row = 0; row < work.rows; ++row) {
    const int64_t head = work.task.head_begin + row % work.heads;
    const float sum = V::ReduceAdd(V::Load(work.scratch.sums + row * V::kLanes));
    float* output = work.scratch.output + static_cast<int64_t>(row) * work.padded_dim;
    for (int32_t i = 0; i < work.padded_dim; i += V::kLanes) {
      V::Store(output + i, V::Div(V::Load(output + i), V::Set1(sum)));
    }
    CopyRow<V>(output, head_dim, head_dim,
               static_cast<Activation*>(args.output) +
                   (work.BatchRow(row) * args.num_heads + head) * head_dim);
  }
}

template <typename M, typename Cache, typename Activation>
void Attention(const AttentionArgs& args, const AttentionTask& task, std::byte* memory) {
  const int32_t padded_dim = PaddedDim<M>(args.layer.head_dim);
  AttentionWork<M, Cache> work{.args = args,
                               .task = task,
                               .scratch = LayOutScratch<M>(memory, padded_dim),
                               .padded_dim = padded_dim,
                               .heads = task.head_end - task.head_begin,
                               .rows = 0};
  const int32_t rows_of_one = (task.token_end - task.token_begin) * work.heads;
  work.rows = rows_of_one * task.num_sequences;
  GatherQueries(work);
  // What all share, then what each has of its own.
  const int32_t shared_end = task.shared_positions;
  int32_t first = work.FirstKey(0);
  for (int32_t row = rows_of_one; row < work.rows; row += rows_of_one) {
    first = first < work.FirstKey(row) ? first : work.FirstKey(row);
  }
  first = first / kAttentionTile * kAttentionTile;
  for (int32_t begin = first; begin < shared_end; begin += kAttentionTile) {
    AttendTile(work, begin, shared_end, 0, work.rows);
  }
  for (int32_t row = 0; row < work.rows; row += rows_of_one) {
    const int32_t end = work.Position(row + rows_of_one - 1) + 1;
    const int32_t own = work.FirstKey(row) / kAttentionTile * kAttentionTile;
    for (int32_t begin = own > shared_end ? own : shared_end; begin < end;
         begin += kAttentionTile) {
      AttendTile(work, begin, end, row, row + rows_of_one);
    }
  }
  WriteOutput<M, Cache, Activation>(work);
}

}  // namespace
}  // namespace baton
