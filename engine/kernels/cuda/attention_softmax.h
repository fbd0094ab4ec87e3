// What one warp does with 16 query rows and one tile of 64 keys, by tensor cores; decode and
// prefill do the same, so that they give the same bits. For .cu files.
//
// A warp's fragments, with g = lane / 4 and t = lane % 4: of a matrix [16, 8 * n] lane holds in [n]
// rows g (elements 0, 1) and g + 8 (elements 2, 3), columns 8 * n + 2 * t and the next. All
// products whose sum might be contracted to a multiply-add are written as what they shall be.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>

#include "engine/kernels/cuda/attention_rows.h"
#include "engine/kernels/cuda/attention_shared.h"
#include "engine/kernels/cuda/ptx.h"

namespace baton {

inline constexpr int32_t kMmaColumns = 8;
inline constexpr int32_t kMmaDepth = 16;
inline constexpr int32_t kScoreColumns = kAttentionTile / kMmaColumns;

inline constexpr float kLog2E = 1.4426950408889634f;
inline constexpr float kNoScore = -std::numeric_limits<float>::infinity();
inline constexpr float kLowestMaximum = -1e30f;  // finite: its differences are never NaN

__device__ __forceinline__ int32_t Lane() { return static_cast<int32_t>(threadIdx.x) % kWarpSize; }
__device__ __forceinline__ int32_t Warp() { return static_cast<int32_t>(threadIdx.x) / kWarpSize; }
// The row of 16 that elements 2 * half and 2 * half + 1 of this lane belong to.
__device__ __forceinline__ int32_t FragmentRow(int32_t half) { return Lane() / 4 + 8 * half; }
__device__ __forceinline__ int32_t FragmentColumn() { return 2 * (Lane() % 4); }

// Where a lane's share of matrices begins: of 16 queries from row `row` of a tile, of 16 keys from
// `key`, of 32 values.
template <int32_t kHeadDim>
__device__ __forceinline__ SharedRow<kHeadDim> QueryRow(int32_t row) {
  return SharedRow<kHeadDim>(row + Lane() % 16, Lane() / 16);
}
template <int32_t kHeadDim>
__device__ __forceinline__ SharedRow<kHeadDim> KeyRow(int32_t key) {
  return SharedRow<kHeadDim>(key + Lane() % 8 + Lane() / 16 * 8, Lane() / 8 % 2);
}
template <int32_t kHeadDim>
__device__ __forceinline__ SharedRow<kHeadDim> ValueRow() {
  return SharedRow<kHeadDim>(Lane());
}

// Numbers [16 * step, 16 * (step + 1)) of 16 queries.
template <int32_t kHeadDim>
__device__ __forceinline__ void LoadQueries(const Bf16* queries, SharedRow<kHeadDim> row,
                                            int32_t step, uint32_t (&fragment)[4]) {
  LoadMatrix4(fragment, queries + row.Offset(2 * step));
}

// scores += queries * keys^T of one step, for 16 * kPairs keys.
template <int32_t kHeadDim, int32_t kPairs>
__device__ __forceinline__ void AddScores(const uint32_t (&queries)[4], const Bf16* keys,
                                          SharedRow<kHeadDim> row, int32_t step,
                                          float (&scores)[2 * kPairs][4]) {
#pragma unroll
  for (int32_t pair = 0; pair < kPairs; ++pair) {
    uint32_t both[4];
    LoadMatrix4(both, keys + row.Offset(2 * step, 16 * pair));
    MmaBf16(scores[2 * pair], queries, {both[0], both[1]});
    MmaBf16(scores[2 * pair + 1], queries, {both[2], both[3]});
  }
}

// Weights of 64 keys as the left side of a product, for each 16 of them.
using WeightFragments = uint32_t[kAttentionTile / kMmaDepth][4];

// output += weights * values, for columns [8 * column, 8 * (column + kColumns)) of the values.
template <int32_t kHeadDim, int32_t kColumns>
__device__ __forceinline__ void AddValues(const WeightFragments& weights, const Bf16* values,
                                          SharedRow<kHeadDim> row, int32_t column,
                                          float (&output)[kColumns][4]) {
#pragma unroll
  for (int32_t half = 0; half < 2; ++half) {
#pragma unroll
    for (int32_t i = 0; i < kColumns; ++i) {
      uint32_t both[4];
      LoadMatrix4Transposed(both, values + row.Offset(column + i, 32 * half));
      MmaBf16(output[i], weights[2 * half], {both[0], both[1]});
      MmaBf16(output[i], weights[2 * half + 1], {both[2], both[3]});
    }
  }
}

// The softmax of two rows, FragmentRow(0) and (1), over the keys met so far. Maxima are of scores
// that `scale` has not met; sums are of this lane's columns, until SumOverLanes.
struct RowSoftmax {
  float maxima[2] = {kLowestMaximum, kLowestMaximum};
  float sums[2] = {0.0f, 0.0f};
};

// 2^(scale * (maximum - to)): what a state's sums are worth under the maximum `to`.
__device__ __forceinline__ float Correction(float maximum, float to, float scale_log2) {
  return Exp2((maximum - to) * scale_log2);
}

// Of one row: hides keys that a row at `position` does not see, and turns scores into weights.
// Returns the factor for earlier output.
__device__ __forceinline__ float SoftmaxOfTile(float (&scores)[kScoreColumns][4], int32_t half,
                                               const CudaAttentionArgs& args, int32_t position,
                                               int32_t tile, float scale_log2, RowSoftmax& state) {
  const int32_t first = FirstKey(args, position);
  if (tile < first || tile + kAttentionTile - 1 > position) {
#pragma unroll
    for (int32_t i = 0; i < 2 * kScoreColumns; ++i) {
      const int32_t key = tile + i / 2 * kMmaColumns + FragmentColumn() + i % 2;
      if (key < first || key > position) scores[i / 2][2 * half + i % 2] = kNoScore;
    }
  }
  float maximum = kLowestMaximum;
#pragma unroll
  for (int32_t i = 0; i < 2 * kScoreColumns; ++i) {
    maximum = fmaxf(maximum, scores[i / 2][2 * half + i % 2]);
  }
  // The row's columns are shared out over four lanes that follow one another.
  maximum = fmaxf(maximum, __shfl_xor_sync(kFullWarp, maximum, 1));
  maximum = fmaxf(maximum, __shfl_xor_sync(kFullWarp, maximum, 2));
  maximum = fmaxf(maximum, state.maxima[half]);
  const float correction = Correction(state.maxima[half], maximum, scale_log2);
  const float scaled = maximum * scale_log2;
  float sum = 0.0f;
#pragma unroll
  for (int32_t i = 0; i < 2 * kScoreColumns; ++i) {
    float& score = scores[i / 2][2 * half + i % 2];
    score = Exp2(fmaf(score, scale_log2, -scaled));
    sum += score;
  }
  state.sums[half] = fmaf(state.sums[half], correction, sum);
  state.maxima[half] = maximum;
  return correction;
}

// Scores of a tile -> what they weigh, and the factors for earlier output.
__device__ __forceinline__ void WeighScores(float (&scores)[kScoreColumns][4],
                                            const CudaAttentionArgs& args,
                                            const int32_t (&positions)[2], int32_t tile,
                                            float scale_log2, RowSoftmax& state,
                                            float (&corrections)[2]) {
#pragma unroll
  for (int32_t half = 0; half < 2; ++half) {
    corrections[half] = SoftmaxOfTile(scores, half, args, positions[half], tile, scale_log2, state);
  }
}
// The same of 8 rows, where there are no more: the other half's scores need not be set, and weigh
// nothing.
__device__ __forceinline__ void WeighLowerHalf(float (&scores)[kScoreColumns][4],
                                               const CudaAttentionArgs& args,
                                               const int32_t (&positions)[2], int32_t tile,
                                               float scale_log2, RowSoftmax& state,
                                               float (&corrections)[2]) {
  corrections[0] = SoftmaxOfTile(scores, 0, args, positions[0], tile, scale_log2, state);
  corrections[1] = 1.0f;
#pragma unroll
  for (int32_t i = 0; i < kScoreColumns; ++i) {
    scores[i][2] = 0.0f;
    scores[i][3] = 0.0f;
  }
}
template <int32_t kColumns>
__device__ __forceinline__ void Correct(const float (&corrections)[2],
                                        float (&output)[kColumns][4]) {
#pragma unroll
  for (int32_t i = 0; i < kColumns; ++i) {
#pragma unroll
    for (int32_t e = 0; e < 4; ++e) output[i][e] *= corrections[e / 2];
  }
}
__device__ __forceinline__ void PackWeights(const float (&weighed)[kScoreColumns][4],
                                            WeightFragments& weights) {
#pragma unroll
  for (int32_t i = 0; i < kScoreColumns; ++i) {
    weights[i / 2][i % 2 * 2] = PackBf16(weighed[i][0], weighed[i][1]);
    weights[i / 2][i % 2 * 2 + 1] = PackBf16(weighed[i][2], weighed[i][3]);
  }
}
// Scores of a tile -> weights, the state and the output made ready for them.
template <int32_t kColumns>
__device__ __forceinline__ void TakeScores(float (&scores)[kScoreColumns][4],
                                           const CudaAttentionArgs& args,
                                           const int32_t (&positions)[2], int32_t tile,
                                           float scale_log2, RowSoftmax& state,
                                           float (&output)[kColumns][4], WeightFragments& weights) {
  float corrections[2];
  WeighScores(scores, args, positions, tile, scale_log2, state, corrections);
  Correct(corrections, output);
  PackWeights(scores, weights);
}

// Of a row's four lanes, which all get the same.
__device__ __forceinline__ void SumOverLanes(RowSoftmax& state) {
#pragma unroll
  for (int32_t half = 0; half < 2; ++half) {
    state.sums[half] += __shfl_xor_sync(kFullWarp, state.sums[half], 1);
    state.sums[half] += __shfl_xor_sync(kFullWarp, state.sums[half], 2);
  }
}

// How two softmaxes of one row become one: numbers of each, sums included, are added with these
// factors. One without keys changes nothing.
struct MergeFactors {
  float maximum;
  float kept;   // of what is there
  float added;  // of what comes behind it
};
__device__ __forceinline__ MergeFactors FactorsOfMerge(float total_maximum, float more_maximum,
                                                       float scale_log2) {
  const float maximum = fmaxf(total_maximum, more_maximum);
  return {.maximum = maximum,
          .kept = Correction(total_maximum, maximum, scale_log2),
          .added = Correction(more_maximum, maximum, scale_log2)};
}
__device__ __forceinline__ float Merge(const MergeFactors& factors, float total, float more) {
  return fmaf(more, factors.added, total * factors.kept);
}

// The end of a row: a number of its output. Adding 0 turns -0 to 0, as merging does.
__device__ __forceinline__ float Normalize(float output, float inverse_sum) {
  return (output + 0.0f) * inverse_sum;
}

// Rows FragmentRow(half): numbers [8 * column, 8 * (column + kColumns)) of what `row` points to.
template <int32_t kColumns>
__device__ __forceinline__ void StoreOutput(const float (&output)[kColumns][4], int32_t half,
                                            float inverse_sum, int32_t column, Bf16* row) {
#pragma unroll
  for (int32_t i = 0; i < kColumns; ++i) {
    const uint32_t pair = PackBf16(Normalize(output[i][2 * half], inverse_sum),
                                   Normalize(output[i][2 * half + 1], inverse_sum));
    Bf16* target = row + (column + i) * kMmaColumns + FragmentColumn();
    *reinterpret_cast<uint32_t*>(target) = pair;
  }
}

// The 16 rows of each warp, of those that there are. Normalised by the sums of `softmax`.
template <int32_t kColumns>
__device__ __forceinline__ void StoreRows(const RowTile& rows, const RowSoftmax& softmax,
                                          const float (&output)[kColumns][4]) {
#pragma unroll
  for (int32_t half = 0; half < 2; ++half) {
    const int32_t row = kMmaRows * Warp() + FragmentRow(half);
    if (rows.Has(row)) StoreOutput(output, half, 1.0f / softmax.sums[half], 0, rows.Output(row));
  }
}

}  // namespace baton
