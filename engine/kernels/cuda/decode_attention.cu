// Attention of few rows over many keys: see attention.h.
//
// A thread block takes 16 rows, one KV head and one range of keys. Its four warps share each tile
// of 64 keys: in the first product each has 16 of the keys, in the second a quarter of the columns
// of the values; scores go from one to the other through shared memory, and each warp does the
// softmax of all of them. So each product is the one that a warp of prefill would have computed
// alone.
//
// Blocks of a launch for long sequences take several ranges one after another, each as if alone.
//
// One block needs 68.5 KiB of shared memory (52.5 with a head dim of 96), of which all but one
// tile's half is on its way while one is used; three blocks share a multiprocessor of an H100 (two
// with a head dim of 256), which has thereby at least 108 KiB (64) under way, several times what
// bandwidth times latency asks for.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "common/check.h"
#include "engine/kernels/cuda/attention.h"
#include "engine/kernels/cuda/attention_rows.h"
#include "engine/kernels/cuda/attention_shared.h"
#include "engine/kernels/cuda/attention_softmax.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/ptx.h"

namespace baton {
namespace {

// Softmaxes of one range each, of rows that see several. Row: sequence * max_rows + token.
struct Partials {
  float* outputs;      // [rows, num_heads, num_ranges, head_dim]
  float* maxima;       // [rows, num_heads, num_ranges]
  float* sums;         // as maxima
  int32_t num_ranges;  // at most, of one sequence, from the first that its first row sees
  int32_t row_tiles;   // of one sequence and KV head, at most

  __device__ int64_t Index(const CudaAttentionArgs& args, int64_t row, int32_t head,
                           int32_t range) const {
    return (row * args.num_heads + head) * num_ranges + range;
  }
};

template <int32_t kHeadDim>
inline constexpr int32_t kDecodeSlots = kHeadDim == 96 ? 4 : 512 / kHeadDim;
// At once on a multiprocessor.
template <int32_t kHeadDim>
inline constexpr int32_t kDecodeBlocks = kHeadDim <= 128 ? 3 : 2;
inline constexpr int32_t kMostBlocks = 48;  // of a launch, for each multiprocessor
// Rows of scores in shared memory, so that the 8 of a fragment are in different banks.
inline constexpr int32_t kScoreStride = kAttentionTile + 8;
inline constexpr size_t kScoreBytes = kMmaRows * kScoreStride * sizeof(float);
template <int32_t kHeadDim>
inline constexpr size_t kDecodeSharedBytes =
    sizeof(Bf16) * KvRing<kHeadDim, kDecodeSlots<kHeadDim>>::kNumbers + kScoreBytes;

// This warp's scores to shared memory; the other way those of all warps.
__device__ __forceinline__ float* ScorePair(float* shared, int32_t half, int32_t column) {
  return shared + FragmentRow(half) * kScoreStride + column * kMmaColumns + FragmentColumn();
}
__device__ __forceinline__ void PutScores(const float (&scores)[2][4], float* shared) {
#pragma unroll
  for (int32_t i = 0; i < 4; ++i) {
    const float* pair = &scores[i / 2][i % 2 * 2];
    *reinterpret_cast<float2*>(ScorePair(shared, i % 2, 2 * Warp() + i / 2)) =
        make_float2(pair[0], pair[1]);
  }
}
__device__ __forceinline__ void GetScores(float* shared, int32_t half,
                                          float (&scores)[kScoreColumns][4]) {
#pragma unroll
  for (int32_t i = 0; i < kScoreColumns; ++i) {
    const float2 pair = *reinterpret_cast<const float2*>(ScorePair(shared, half, i));
    scores[i][half * 2] = pair.x;
    scores[i][half * 2 + 1] = pair.y;
  }
}

// What a warp holds of its quarter of the output.
template <int32_t kHeadDim>
struct DecodeState {
  static constexpr int32_t kColumns = kHeadDim / kMmaColumns / kAttentionWarps;
  RowSoftmax softmax;
  float output[kColumns][4] = {};
};

// Tiles [begin, end) for the rows of a block.
template <int32_t kHeadDim>
__device__ void AttendRange(const CudaAttentionArgs& args, const RowTile& rows,
                            const KvSource& source, int32_t begin, int32_t end, float scale_log2,
                            DecodeState<kHeadDim>& state) {
  using Ring = KvRing<kHeadDim, kDecodeSlots<kHeadDim>>;
  constexpr int32_t kSteps = kHeadDim / kMmaDepth;
  auto* slots = DynamicShared<Bf16>();
  auto* shared_scores = reinterpret_cast<float*>(slots + Ring::kNumbers);
  const Ring ring(source, end, slots);
  Bf16* shared_queries = ring.Free(begin);
  __syncthreads();  // other warps may still use the values of the range before
  CopyQueries<kHeadDim, kMmaRows>(rows, shared_queries);
  CpAsyncCommit();
  ring.Start(begin);
  __syncthreads();
  uint32_t queries[kSteps][4];
#pragma unroll
  for (int32_t step = 0; step < kSteps; ++step) {
    LoadQueries(shared_queries, QueryRow<kHeadDim>(0), step, queries[step]);
  }
  const int32_t positions[2] = {rows.LastKey(FragmentRow(0)), rows.LastKey(FragmentRow(1))};
  // Without: one token of up to 8 heads, the most frequent case.
  const bool both_halves = rows.Has(kMmaRows / 2);
  for (int32_t tile = begin; tile < end; tile += kAttentionTile) {
    const Bf16* keys = ring.template Next<0>(tile);
    const SharedRow<kHeadDim> key_row = KeyRow<kHeadDim>(kMmaRows * Warp()).OfTile(tile);
    float own_scores[2][4] = {};
#pragma unroll
    for (int32_t step = 0; step < kSteps; ++step) {
      AddScores<kHeadDim, 1>(queries[step], keys, key_row, step, own_scores);
    }
    PutScores(own_scores, shared_scores);
    const Bf16* values = ring.template Next<1>(tile);  // a barrier: all scores are there
    float scores[kScoreColumns][4];
    float corrections[2];
    GetScores(shared_scores, 0, scores);
    if (both_halves) {
      GetScores(shared_scores, 1, scores);
      WeighScores(scores, args, positions, tile, scale_log2, state.softmax, corrections);
    } else {
      WeighLowerHalf(scores, args, positions, tile, scale_log2, state.softmax, corrections);
    }
    Correct(corrections, state.output);
    WeightFragments weights;
    PackWeights(scores, weights);
    AddValues(weights, values, ValueRow<kHeadDim>().OfTile(tile), Warp() * state.kColumns,
              state.output);
  }
  SumOverLanes(state.softmax);
}

// Where the rows of a block that see this range put what it gave: a row that sees no other has its
// result already.
template <int32_t kHeadDim>
__device__ void StoreRange(const CudaAttentionArgs& args, const Partials& partials,
                           const RowTile& rows, int32_t range, int32_t first_range,
                           const DecodeState<kHeadDim>& state) {
  const int32_t column = Warp() * state.kColumns;
#pragma unroll
  for (int32_t half = 0; half < 2; ++half) {
    const int32_t row = FragmentRow(half);
    if (!rows.Has(row)) continue;
    const int32_t row_first = RangeOf(args, FirstKey(args, rows.Position(row)));
    const int32_t row_last = RangeOf(args, rows.Position(row));
    if (range < row_first || range > row_last) continue;
    if (row_first == row_last) {
      StoreOutput(state.output, half, 1.0f / state.softmax.sums[half], column, rows.Output(row));
      continue;
    }
    const int64_t batch_row = int64_t{blockIdx.z} * args.max_rows + rows.Token(row);
    const int64_t index = partials.Index(args, batch_row, rows.Head(row), range - first_range);
    if (column == 0 && FragmentColumn() == 0) {  // all that have the row have the same
      partials.maxima[index] = state.softmax.maxima[half];
      partials.sums[index] = state.softmax.sums[half];
    }
    float* output = partials.outputs + index * kHeadDim + FragmentColumn();
#pragma unroll
    for (int32_t i = 0; i < state.kColumns; ++i) {
      *reinterpret_cast<float2*>(output + (column + i) * kMmaColumns) =
          make_float2(state.output[i][2 * half], state.output[i][2 * half + 1]);
    }
  }
}

template <int32_t kHeadDim>
__global__ void __launch_bounds__(kAttentionThreads, kDecodeBlocks<kHeadDim>)
    DecodeKernel(const CudaAttentionArgs args, const Partials partials) {
  WaitForPreviousGrid();
  const CudaSequence sequence = args.sequences[blockIdx.z];
  const int32_t kv_head = static_cast<int32_t>(blockIdx.y) / partials.row_tiles;
  const int32_t row_tile = static_cast<int32_t>(blockIdx.y) % partials.row_tiles;
  const RowTile rows(args, sequence, kv_head, row_tile * kMmaRows);
  if (!rows.Has(0)) return;
  const int32_t first_range = RangeOf(args, FirstKey(args, sequence.start_position));
  const KeyBounds seen = rows.AllBounds(kMmaRows);
  const KvSource source(args, rows, seen);
  // Which block has a range changes nothing in its result.
  for (int32_t range = first_range + static_cast<int32_t>(blockIdx.x);
       range <= RangeOf(args, seen.last); range += static_cast<int32_t>(gridDim.x)) {
    const int32_t begin =
        max(seen.first / kAttentionTile * kAttentionTile, RangeBegin(args, range));
    const int32_t end = min(seen.last + 1, RangeBegin(args, range + 1));
    if (begin >= end) continue;  // before the window of this tile's rows
    DecodeState<kHeadDim> state;
    AttendRange<kHeadDim>(args, rows, source, begin, end, args.scale * kLog2E, state);
    StoreRange(args, partials, rows, range, first_range, state);
  }
}

// Merges the ranges of one row and head in rising order. Each thread has two numbers of the output.
__global__ void MergeKernel(const CudaAttentionArgs args, const Partials partials) {
  WaitForPreviousGrid();
  const auto row = static_cast<int32_t>(blockIdx.x);
  const auto head = static_cast<int32_t>(blockIdx.y);
  const CudaSequence sequence = args.sequences[row / args.max_rows];
  const int32_t token = row % args.max_rows;
  if (token >= sequence.num_rows) return;
  const int32_t position = sequence.start_position + token;
  const int32_t begin = RangeOf(args, FirstKey(args, position));
  const int32_t end = RangeOf(args, position) + 1;
  if (end - begin == 1) return;  // already written
  const int32_t first_range = RangeOf(args, FirstKey(args, sequence.start_position));
  const int64_t first = partials.Index(args, row, head, begin - first_range);
  const int32_t head_dim = args.layer.head_dim;
  const auto column = static_cast<int32_t>(2 * threadIdx.x);
  const float* outputs = partials.outputs + first * head_dim + column;
  const float scale_log2 = args.scale * kLog2E;
  float maximum = kLowestMaximum;
  float sum = 0.0f;
  float2 output = make_float2(0.0f, 0.0f);
#pragma unroll 4
  for (int32_t i = 0; i < end - begin; ++i) {
    const float2 more = *reinterpret_cast<const float2*>(outputs + int64_t{i} * head_dim);
    const MergeFactors factors = FactorsOfMerge(maximum, partials.maxima[first + i], scale_log2);
    maximum = factors.maximum;
    sum = Merge(factors, sum, partials.sums[first + i]);
    output.x = Merge(factors, output.x, more.x);
    output.y = Merge(factors, output.y, more.y);
  }
  const float inverse = 1.0f / sum;
  const int64_t batch_row = sequence.row_begin + token;
  Bf16* target = args.output + (batch_row * args.num_heads + head) * head_dim + column;
  *reinterpret_cast<uint32_t*>(target) =
      PackBf16(Normalize(output.x, inverse), Normalize(output.y, inverse));
}

// That `positions` of a sequence are in, from its first.
int32_t NumRanges(int32_t positions, int32_t key_range_log2) {
  return (positions + (1 << key_range_log2) - 1) >> key_range_log2;
}

int32_t MostRanges(const CudaAttentionArgs& args) {
  const int32_t ranges = NumRanges(args.max_positions, args.key_range_log2);
  if (args.window == 0) return ranges;
  // Positions in a row that the rows of a sequence see together begin anywhere in a range.
  const int64_t seen = int64_t{args.window} + args.max_rows - 1;
  const int64_t range = int64_t{1} << args.key_range_log2;
  return static_cast<int32_t>(std::min<int64_t>(ranges, (seen + range - 2) / range + 1));
}

// Thread blocks that share the ranges of a sequence. One for each, unless that would be far more
// than the device can keep busy: most sequences do not reach the upper bound, and a block that
// finds nothing to do is not free.
int32_t BlocksForRanges(const CudaContext& context, const CudaAttentionArgs& args,
                        const Partials& partials) {
  const int32_t others =
      std::max(1, args.layer.num_kv_heads * partials.row_tiles * args.num_sequences);
  const int32_t most = context.info().multiprocessors * kMostBlocks / others;
  return std::clamp(most, 1, std::max(1, partials.num_ranges));
}

}  // namespace

size_t DecodeAttentionScratchBytes(int32_t rows, int32_t num_heads, int32_t head_dim,
                                   int32_t max_positions, int32_t key_range_log2) {
  const auto ranges = static_cast<size_t>(NumRanges(max_positions, key_range_log2));
  if (ranges <= 1) return 0;
  return static_cast<size_t>(rows) * static_cast<size_t>(num_heads) * ranges *
         static_cast<size_t>(head_dim + 2) * sizeof(float);
}

void DecodeAttention(const CudaContext& context, const CudaAttentionArgs& args) {
  BATON_CHECK(args.key_range_log2 <= kMaxKeyRangeLog2 && 1 << args.key_range_log2 >= kAttentionTile)
      << args.key_range_log2;
  const int32_t num_ranges = MostRanges(args);
  const auto rows = static_cast<uint32_t>(args.num_sequences * args.max_rows);
  const int64_t softmaxes = int64_t{rows} * args.num_heads * num_ranges;
  auto* outputs = reinterpret_cast<float*>(args.scratch);
  const int64_t numbers = softmaxes * args.layer.head_dim;
  const bool merges = num_ranges > 1;
  const Partials partials{.outputs = outputs,
                          .maxima = merges ? outputs + numbers : nullptr,
                          .sums = merges ? outputs + numbers + softmaxes : nullptr,
                          .num_ranges = num_ranges,
                          .row_tiles = RowTiles(args, args.max_rows, kMmaRows)};
  const auto tiles = static_cast<uint32_t>(args.layer.num_kv_heads * partials.row_tiles);
  const dim3 grid(static_cast<uint32_t>(BlocksForRanges(context, args, partials)), tiles,
                  static_cast<uint32_t>(args.num_sequences));
  const bool known = WithHeadDim(args.layer.head_dim,
                                 [&]<int32_t kHeadDim>(std::integral_constant<int32_t, kHeadDim>) {
                                   Launch(context, "decode attention",
                                          {.grid = grid,
                                           .block = kAttentionThreads,
                                           .shared_bytes = kDecodeSharedBytes<kHeadDim>},
                                          DecodeKernel<kHeadDim>, args, partials);
                                 });
  if (!known) context.Note(cudaErrorInvalidValue, "decode attention");
  if (!merges) return;
  Launch(context, "merging attention",
         {.grid = dim3(rows, static_cast<uint32_t>(args.num_heads)),
          .block = static_cast<uint32_t>(args.layer.head_dim / 2)},
         MergeKernel, args, partials);
}

}  // namespace baton
