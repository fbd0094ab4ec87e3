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
  TransposeKeys(work, StageAhead(work, blocks, begin, end, 1));
  StageAhead next_keys(work, blocks, begin + kAttentionTile, end, 0);
  const int32_t lines = next_keys.LinesPerTurn(row_end - row_begin);
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
    next_keys.Ask(lines);
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
