// Paged attention of one unit of work. Internal linkage on purpose: see vec_avx512.h.
//
// Per tile of 64 key positions: keys are copied out of their blocks and transposed, so that both
// products are the GEMM's inner loop:
//   scores  [rows, 64]       = queries [rows, head_dim] * keys^T
//   output  [rows, head_dim] = output * correction + weights [rows, 64] * values
// Tiles that several sequences share are copied once, for the rows of all; each row still meets its
// tiles one by one in rising order, so sharing changes no bit. Nor does it matter which thread goes
// over a range of keys: each range starts anew, and what it gave is merged in rising order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/cpu/attention_stage.h"
#include "engine/kernels/cpu/gemm_tile.h"
#include "engine/kernels/cpu/vec_math.h"
#include "engine/kernels/paged_attention.h"

namespace baton {
namespace {

inline constexpr float kNoScore = -__builtin_inff();
inline constexpr float kLowestMaximum = -1e30f;  // finite: its differences are never NaN

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

template <typename M>
void GatherQueries(const AttentionWork<M>& work) {
  const AttentionArgs& args = work.args;
  for (int32_t row = 0; row < work.rows; ++row) {
    const int64_t head = work.task.head_begin + row % work.heads;
    CopyRow<typename M::V>(
        args.queries + work.BatchRow(row) * args.row_stride + head * args.layer.head_dim,
        args.layer.head_dim, work.padded_dim,
        work.scratch.queries + static_cast<int64_t>(row) * work.padded_dim);
  }
}

// To that of no keys.
template <typename V>
void ResetState(const SoftmaxStates& states, int32_t row, int32_t padded_dim) {
  states.maxima[row] = kLowestMaximum;
  V::Store(states.sums + row * V::kLanes, V::Zero());
  float* output = states.output + static_cast<int64_t>(row) * padded_dim;
  for (int32_t i = 0; i < padded_dim; i += V::kLanes) V::Store(output + i, V::Zero());
}

// Adds the keys of `more`, which come behind those of `total`.
template <typename V>
void MergeState(const SoftmaxStates& more, const SoftmaxStates& total, int32_t row,
                int32_t padded_dim) {
  const float old_maximum = total.maxima[row];
  const float maximum = more.maxima[row] > old_maximum ? more.maxima[row] : old_maximum;
  const typename V::F kept = V::Set1(ExpScalar<V>(old_maximum - maximum));
  const typename V::F added = V::Set1(ExpScalar<V>(more.maxima[row] - maximum));
  const auto merge = [&](const float* from, float* to) {
    V::Store(to, V::Fma(V::Load(from), added, V::Mul(V::Load(to), kept)));
  };
  merge(more.sums + row * V::kLanes, total.sums + row * V::kLanes);
  const int64_t first = static_cast<int64_t>(row) * padded_dim;
  for (int32_t i = 0; i < padded_dim; i += V::kLanes) {
    merge(more.output + first + i, total.output + first + i);
  }
  total.maxima[row] = maximum;
}

// The softmax of one row's scores against what came before; returns the factor for earlier output.
template <typename M>
float SoftmaxRow(const AttentionScratch<M>& scratch, int32_t row, int32_t key_begin,
                 int32_t key_end, float scale) {
  const SoftmaxStates& states = scratch.range;
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
  const float old_maximum = states.maxima[row];
  const float tile_maximum = V::ReduceMax(maximum);
  const float new_maximum = tile_maximum > old_maximum ? tile_maximum : old_maximum;
  const float correction =
      new_maximum == old_maximum ? 1.0f : ExpScalar<V>(old_maximum - new_maximum);
  F sum = V::Mul(V::Load(states.sums + row * V::kLanes), V::Set1(correction));
  for (int v = 0; v < kVectors; ++v) {
    const F weight = Exp<V>(V::Sub(score[v], V::Set1(new_maximum)));
    sum = V::Add(sum, weight);
    StoreAs<V>(scratch.weights + row * kAttentionTile + v * V::kLanes, weight);
  }
  V::Store(states.sums + row * V::kLanes, sum);
  states.maxima[row] = new_maximum;
  return correction;
}

// Rows [row_begin, row_end) of the task over the tile from `begin`, which lies in their sequences'
// blocks; positions from `end` on are not theirs.
template <typename Cache, typename M>
void AttendTile(const AttentionWork<M>& work, int32_t begin, int32_t end, int32_t row_begin,
                int32_t row_end) {
  using V = typename M::V;
  const AttentionScratch<M>& scratch = work.scratch;
  const BlockId* blocks = work.Sequence(row_begin).block_table.data();
  Stage<Cache>(work, blocks, begin, end, 0);
  TransposeKeys(work, StageAhead(work, blocks, begin, end, 1));
  Multiply<M>({.a = scratch.queries + static_cast<int64_t>(row_begin) * work.padded_dim,
               .a_stride = work.padded_dim,
               .b = scratch.keys,
               .b_stride = int64_t{kAttentionTile} * M::kStep,
               .steps = work.padded_dim / M::kStep,
               .c = scratch.scores + static_cast<int64_t>(row_begin) * kAttentionTile,
               .c_stride = kAttentionTile},
              row_end - row_begin, kAttentionTile);
  StageAhead next_keys(work, blocks, begin + kAttentionTile, end, 0);
  const int32_t lines = next_keys.LinesPerTurn(row_end - row_begin);
  for (int32_t row = row_begin; row < row_end; ++row) {
    const float correction = SoftmaxRow<M>(scratch, row, work.FirstKey(row) - begin,
                                           work.Position(row) + 1 - begin, work.args.scale);
    next_keys.Ask(lines);
    if (correction == 1.0f) continue;
    float* output = scratch.range.output + static_cast<int64_t>(row) * work.padded_dim;
    for (int32_t i = 0; i < work.padded_dim; i += V::kLanes) {
      V::Store(output + i, V::Mul(V::Load(output + i), V::Set1(correction)));
    }
  }
  Stage<Cache>(work, blocks, begin, end, 1);
  Multiply<M>({.a = scratch.weights + static_cast<int64_t>(row_begin) * kAttentionTile,
               .a_stride = kAttentionTile,
               .b = M::Interleave(scratch.staging, work.padded_dim, scratch.values),
               .b_stride = int64_t{work.padded_dim} * M::kStep,
               .steps = kAttentionTile / M::kStep,
               .c = scratch.range.output + static_cast<int64_t>(row_begin) * work.padded_dim,
               .c_stride = work.padded_dim,
               .accumulate = true},
              row_end - row_begin, work.padded_dim);
}

// Merges what the rows found in their range of keys; the next range starts anew.
template <typename M>
void EndRange(const AttentionWork<M>& work, int32_t range, int32_t row_begin, int32_t row_end) {
  using V = typename M::V;
  const AttentionScratch<M>& scratch = work.scratch;
  for (int32_t row = row_begin; row < row_end; ++row) {
    if (work.Sees(row, range)) {
      MergeState<V>(scratch.range, scratch.total, row, work.padded_dim);
    }
    ResetState<V>(scratch.range, row, work.padded_dim);
  }
}

// Rows over the tiles of [begin, end), which ends their keys if it is `last`.
template <typename Cache, typename M>
void AttendKeys(const AttentionWork<M>& work, int32_t begin, int32_t end, int32_t row_begin,
                int32_t row_end, bool last) {
  for (int32_t tile = begin; tile < end; tile += kAttentionTile) {
    AttendTile<Cache>(work, tile, end, row_begin, row_end);
    const int32_t next = tile + kAttentionTile;
    if (next % kKeyRange == 0 || (last && next >= end)) {
      EndRange(work, tile / kKeyRange, row_begin, row_end);
    }
  }
}

// Divides each row by the sum of its weights, and writes it out.
template <typename Activation, typename M>
void WriteOutput(const AttentionWork<M>& work) {
  using V = typename M::V;
  const AttentionArgs& args = work.args;
  const SoftmaxStates& total = work.scratch.total;
  const int32_t head_dim = args.layer.head_dim;
  for (int32_t row = 0; row < work.rows; ++row) {
    const int64_t head = work.task.head_begin + row % work.heads;
    const float sum = V::ReduceAdd(V::Load(total.sums + row * V::kLanes));
    float* output = total.output + static_cast<int64_t>(row) * work.padded_dim;
    for (int32_t i = 0; i < work.padded_dim; i += V::kLanes) {
      V::Store(output + i, V::Div(V::Load(output + i), V::Set1(sum)));
    }
    CopyRow<V>(output, head_dim, head_dim,
               static_cast<Activation*>(args.output) +
                   (work.BatchRow(row) * args.num_heads + head) * head_dim);
  }
}

// `partial`: where the states of the task's range are kept; null: in the scratch.
template <typename M>
AttentionWork<M> StartWork(const AttentionArgs& args, const AttentionTask& task, std::byte* memory,
                           std::byte* partial) {
  const int32_t padded_dim = PaddedDim<M>(args.layer.head_dim);
  const int32_t heads = task.head_end - task.head_begin;
  AttentionWork<M> work{.args = args,
                        .task = task,
                        .scratch = LayOutScratch<M>(memory, padded_dim),
                        .padded_dim = padded_dim,
                        .heads = heads,
                        .rows_of_one = (task.token_end - task.token_begin) * heads,
                        .rows = 0};
  work.rows = work.rows_of_one * task.num_sequences;
  if (partial != nullptr) {
    work.scratch.range = LayOutStates<typename M::V>(&partial, work.rows, padded_dim);
  }
  for (int32_t row = 0; row < work.rows; ++row) {
    ResetState<typename M::V>(work.scratch.range, row, padded_dim);
    ResetState<typename M::V>(work.scratch.total, row, padded_dim);
  }
  return work;
}

// The task's range of keys alone: what it gives stays where it is, for MergeAttention.
template <typename Cache, typename M>
void AttendRange(const AttentionWork<M>& work) {
  const int32_t range_begin = work.task.key_range * kKeyRange;
  const int32_t own_end = work.Position(work.rows - 1) + 1;
  const int32_t end = own_end < range_begin + kKeyRange ? own_end : range_begin + kKeyRange;
  const int32_t first = work.FirstKey(0) / kAttentionTile * kAttentionTile;
  for (int32_t tile = first > range_begin ? first : range_begin; tile < end;
       tile += kAttentionTile) {
    AttendTile<Cache>(work, tile, end, 0, work.rows);
  }
}

template <typename M, typename Cache, typename Activation>
void Attention(const AttentionArgs& args, const AttentionTask& task, std::byte* memory,
               std::byte* partial) {
  const AttentionWork<M> work = StartWork<M>(args, task, memory, partial);
  GatherQueries(work);
  if (partial != nullptr) {
    AttendRange<Cache>(work);
    return;
  }
  // What all share, then what each has of its own.
  const int32_t shared_end = task.shared_positions;
  int32_t first = work.FirstKey(0);
  for (int32_t row = work.rows_of_one; row < work.rows; row += work.rows_of_one) {
    first = first < work.FirstKey(row) ? first : work.FirstKey(row);
  }
  first = first / kAttentionTile * kAttentionTile;
  AttendKeys<Cache>(work, first, shared_end, 0, work.rows, false);
  for (int32_t row = 0; row < work.rows; row += work.rows_of_one) {
    const int32_t end = work.Position(row + work.rows_of_one - 1) + 1;
    const int32_t own = work.FirstKey(row) / kAttentionTile * kAttentionTile;
    AttendKeys<Cache>(work, own > shared_end ? own : shared_end, end, row, row + work.rows_of_one,
                      true);
  }
  WriteOutput<Activation>(work);
}

template <typename M, typename Activation>
void MergeAttention(const AttentionArgs& args, const AttentionMerge& merge, std::byte* memory,
                    std::byte* partials, int64_t partial_bytes) {
  using V = typename M::V;
  const AttentionWork<M> work = StartWork<M>(args, merge.task, memory, nullptr);
  for (int32_t range = 0; range < merge.num_partials; ++range) {
    std::byte* partial = partials + range * partial_bytes;
    const auto states = LayOutStates<V>(&partial, work.rows, work.padded_dim);
    for (int32_t row = 0; row < work.rows; ++row) {
      if (work.Sees(row, range)) {
        MergeState<V>(states, work.scratch.total, row, work.padded_dim);
      }
    }
  }
  WriteOutput<Activation>(work);
}

}  // namespace
}  // namespace baton
