// Attention of many rows by wgmma, for compute capability 9.0a alone: see attention.h.
//
// A thread block takes 128 rows and one KV head, over all keys that the rows see. Each of its two
// warpgroups has 64 rows, and each of their warps 16 of those, as in prefill_attention.cu: queries,
// scores, weights and output stay in registers, keys and values come from shared memory, and go
// there by copies of 16 bytes, as the cache's blocks are scattered.
//
// A tile's scores are computed while the values of the tile before are added, and weighed while
// that goes on (FlashAttention-3, Shah et al. 2024). What goes into a row, and in which order, is
// what prefill_attention.cu does.
#include <cuda_runtime.h>

#include <cstdint>

#include "engine/kernels/cuda/attention.h"
#include "engine/kernels/cuda/attention_rows.h"
#include "engine/kernels/cuda/attention_shared.h"
#include "engine/kernels/cuda/attention_softmax.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/prefill_kernels.h"
#include "engine/kernels/cuda/ptx.h"
#include "engine/kernels/cuda/wgmma.h"

namespace baton {
namespace {

inline constexpr int32_t kWarpgroups = 2;
inline constexpr int32_t kWgmmaRows = 64 * kWarpgroups;
inline constexpr int32_t kWgmmaThreads = kWarpgroupSize * kWarpgroups;

// A tile in shared memory: [kHeadDim / 64] panels of [64 positions][64 numbers], the chunks of each
// line turned by the line's number: what wgmma_descriptor.h calls cores, a panel's one after
// another.
template <int32_t kHeadDim>
struct WgmmaTile {
  static constexpr int32_t kLine = 64;  // numbers
  static constexpr int32_t kPanels = kHeadDim / kLine;
  static constexpr int32_t kPanelNumbers = kAttentionTile * kLine;
  static constexpr int32_t kNumbers = kPanels * kPanelNumbers;
  static constexpr uint32_t kCoreBytes = 8 * kLine * sizeof(Bf16);
  static constexpr uint32_t kPanelBytes = kPanelNumbers * sizeof(Bf16);

  // Keys or values from position `begin` on. By all threads of the block.
  static __device__ __forceinline__ void Copy(const KvSource& source, int32_t begin, int32_t part,
                                              Bf16* tile) {
    constexpr int32_t kChunks = kLine / kChunk;
    constexpr int32_t kLinesAtOnce = kWgmmaThreads / kChunks;
    const int32_t line = static_cast<int32_t>(threadIdx.x) / kChunks;
    const int32_t chunk = static_cast<int32_t>(threadIdx.x) % kChunks;
    Bf16* target = tile + line * kLine + (chunk ^ line % kChunks) * kChunk;
    KvSource::Row rows[kAttentionTile / kLinesAtOnce];
    source.Find<kHeadDim * sizeof(Bf16), kLinesAtOnce>(
        begin + line, part, static_cast<uint32_t>(chunk * kChunk * sizeof(Bf16)), rows);
#pragma unroll
    for (int32_t i = 0; i < kAttentionTile / kLinesAtOnce; ++i) {
#pragma unroll
      for (int32_t panel = 0; panel < kPanels; ++panel) {
        CpAsync16(target + panel * kPanelNumbers + i * kLinesAtOnce * kLine,
                  rows[i].data + panel * kLine * sizeof(Bf16), rows[i].valid);
      }
    }
  }

  // Numbers [16 * step, 16 * (step + 1)) of all keys.
  static __device__ __forceinline__ uint64_t Keys(const Bf16* tile, int32_t step) {
    const int32_t first = step * kMmaDepth;
    return SharedMatrix(tile + first / kLine * kPanelNumbers + first % kLine, 0, kCoreBytes);
  }
  // All numbers of values [16 * step, 16 * (step + 1)).
  static __device__ __forceinline__ uint64_t Values(const Bf16* tile, int32_t step) {
    return SharedMatrix(tile + step * kMmaDepth * kLine, kPanelBytes, kCoreBytes);
  }
};

// The keys of a tile and the values of the tile before it are a stage; kStages of them share
// memory, and all but one are on their way while one is used.
template <int32_t kHeadDim>
class KvStages {
 public:
  static constexpr int32_t kStages = 4;
  static constexpr int32_t kNumbers = kStages * 2 * WgmmaTile<kHeadDim>::kNumbers;

  // Tiles from `first` on, which begin before position `end`. slots: [kNumbers].
  __device__ __forceinline__ KvStages(const KvSource& source, int32_t first, int32_t end,
                                      Bf16* slots)
      : source_(source), slots_(slots), first_(first), end_(end) {
#pragma unroll
    for (int32_t stage = 0; stage < kStages - 1; ++stage) Ask(first + stage * kAttentionTile);
  }

  // The next stage, that of the keys of `tile`, and room for another in place of the one before. By
  // all threads of the block, which have waited for their products; a barrier to them.
  __device__ __forceinline__ void Next(int32_t tile) const {
    CpAsyncWait<kStages - 2>();
    FenceSharedForWgmma();
    __syncthreads();
    Ask(tile + (kStages - 1) * kAttentionTile);
  }
  __device__ __forceinline__ Bf16* Keys(int32_t tile) const { return Slot(tile, 0); }
  __device__ __forceinline__ Bf16* Values(int32_t tile) const {
    return Slot(tile + kAttentionTile, 1);
  }

 private:
  using Tile = WgmmaTile<kHeadDim>;
  __device__ __forceinline__ Bf16* Slot(int32_t tile, int32_t part) const {
    const int32_t stage = tile / kAttentionTile % kStages;
    return slots_ + (2 * stage + part) * Tile::kNumbers;
  }
  // A group behind the end is empty, so that waits can count.
  __device__ __forceinline__ void Ask(int32_t tile) const {
    const int32_t before = tile - kAttentionTile;
    if (tile < end_) Tile::Copy(source_, tile, 0, Slot(tile, 0));
    if (before >= first_ && before < end_) Tile::Copy(source_, before, 1, Slot(tile, 1));
    CpAsyncCommit();
  }

  const KvSource& source_;
  Bf16* slots_;
  const int32_t first_;
  const int32_t end_;
};

// What a thread holds of the output of its warp's rows, over some keys.
template <int32_t kHeadDim>
struct WgmmaState {
  static constexpr int32_t kColumns = kHeadDim / kMmaColumns;
  RowSoftmax softmax;
  float output[kColumns][4] = {};
};

// Merges a range of keys behind those that came before. `softmax`: that of the range.
template <int32_t kHeadDim>
__device__ __forceinline__ void MergeRange(RowSoftmax softmax,
                                           const float (&output)[WgmmaState<kHeadDim>::kColumns][4],
                                           float scale_log2, WgmmaState<kHeadDim>& total) {
  SumOverLanes(softmax);
  MergeFactors factors[2];
#pragma unroll
  for (int32_t half = 0; half < 2; ++half) {
    float& maximum = total.softmax.maxima[half];
    float& sum = total.softmax.sums[half];
    factors[half] = FactorsOfMerge(maximum, softmax.maxima[half], scale_log2);
    maximum = factors[half].maximum;
    sum = Merge(factors[half], sum, softmax.sums[half]);
  }
#pragma unroll
  for (int32_t i = 0; i < total.kColumns; ++i) {
#pragma unroll
    for (int32_t e = 0; e < 4; ++e) {
      total.output[i][e] = Merge(factors[e / 2], total.output[i][e], output[i][e]);
    }
  }
}

// The 16 rows of a warp; zeros for those that the tile has not.
template <int32_t kHeadDim>
__device__ __forceinline__ void ReadQueries(const RowTile& rows,
                                            uint32_t (&queries)[kHeadDim / kMmaDepth][4]) {
#pragma unroll
  for (int32_t half = 0; half < 2; ++half) {
    const int32_t row = kMmaRows * Warp() + FragmentRow(half);
    const bool valid = rows.Has(row);
    const Bf16* query = rows.Query(valid ? row : 0) + FragmentColumn();
#pragma unroll
    for (int32_t i = 0; i < kHeadDim / kMmaColumns; ++i) {
      const auto* pair = reinterpret_cast<const uint32_t*>(query + i * kMmaColumns);
      queries[i / 2][i % 2 * 2 + half] = valid ? *pair : 0;
    }
  }
}

// scores = queries * keys^T, under way.
template <int32_t kHeadDim>
__device__ __forceinline__ void StartScores(const uint32_t (&queries)[kHeadDim / kMmaDepth][4],
                                            const Bf16* keys, float (&scores)[kScoreColumns][4]) {
#pragma unroll
  for (int32_t step = 0; step < kHeadDim / kMmaDepth; ++step) {
    WgmmaBf16<false>(scores, queries[step], WgmmaTile<kHeadDim>::Keys(keys, step), step > 0);
  }
  WgmmaCommit();
}
// output += weights * values, under way.
template <int32_t kHeadDim>
__device__ __forceinline__ void StartValues(const WeightFragments& weights, const Bf16* values,
                                            float (&output)[kHeadDim / kMmaColumns][4]) {
#pragma unroll
  for (int32_t step = 0; step < kAttentionTile / kMmaDepth; ++step) {
    WgmmaBf16<true>(output, weights[step], WgmmaTile<kHeadDim>::Values(values, step), true);
  }
  WgmmaCommit();
}

// All keys of a tile of rows.
template <int32_t kHeadDim>
__device__ __forceinline__ void AttendAll(const CudaAttentionArgs& args, const RowTile& rows,
                                          WgmmaState<kHeadDim>& total) {
  const KeyBounds seen = rows.AllBounds(kWgmmaRows);
  const KvSource source(args, rows, seen);
  const float scale_log2 = args.scale * kLog2E;
  const int32_t first = seen.first / kAttentionTile * kAttentionTile;
  const int32_t end = seen.last + 1;
  const KvStages<kHeadDim> stages(source, first, end, DynamicShared<Bf16>());
  const int32_t row = kMmaRows * Warp();
  const int32_t positions[2] = {rows.LastKey(row + FragmentRow(0)),
                                rows.LastKey(row + FragmentRow(1))};
  uint32_t queries[kHeadDim / kMmaDepth][4];
  ReadQueries<kHeadDim>(rows, queries);
  float scores[kScoreColumns][4];
  float corrections[2];
  WeightFragments weights;
  WgmmaState<kHeadDim> state;
  stages.Next(first);
  WgmmaFence(scores, queries);
  StartScores<kHeadDim>(queries, stages.Keys(first), scores);
  WgmmaWait<0>(scores);
  WeighScores(scores, args, positions, first, scale_log2, state.softmax, corrections);
  PackWeights(scores, weights);
  int32_t tile = first;
  for (int32_t next = tile + kAttentionTile; next < end; next += kAttentionTile) {
    stages.Next(next);
    WgmmaFence(scores, weights, state.output);
    StartScores<kHeadDim>(queries, stages.Keys(next), scores);
    StartValues<kHeadDim>(weights, stages.Values(tile), state.output);
    WgmmaWait<1>(scores);
    const bool begins_range = next == RangeBegin(args, RangeOf(args, next));
    const RowSoftmax before = state.softmax;
    if (begins_range) state.softmax = {};
    WeighScores(scores, args, positions, next, scale_log2, state.softmax, corrections);
    WgmmaWait<0>(state.output, weights);
    if (begins_range) {
      MergeRange<kHeadDim>(before, state.output, scale_log2, total);
      // Corrections are 0 here, but an infinity is to stay one.
#pragma unroll
      for (auto& column : state.output) {
        for (float& number : column) number = 0.0f;
      }
    }
    Correct(corrections, state.output);
    PackWeights(scores, weights);
    tile = next;
  }
  stages.Next(tile + kAttentionTile);
  WgmmaFence(weights, state.output);
  StartValues<kHeadDim>(weights, stages.Values(tile), state.output);
  WgmmaWait<0>(state.output, weights);
  MergeRange<kHeadDim>(state.softmax, state.output, scale_log2, total);
}

template <int32_t kHeadDim>
__global__ void __launch_bounds__(kWgmmaThreads, 1) WgmmaKernel(const CudaAttentionArgs args) {
  WaitForPreviousGrid();
  WgmmaState<kHeadDim> total;
  {
    const RowTile rows = RowsOfBlock(args, kWgmmaRows);
    if (rows.begin() < 0) return;
    AttendAll(args, rows, total);
  }
  // Once more, so that no registers are taken by it meanwhile.
  StoreRows(RowsOfBlock(args, kWgmmaRows), total.softmax, total.output);
}

template <int32_t kHeadDim>
void LaunchWgmma(const CudaContext& context, const CudaAttentionArgs& args) {
  const dim3 grid(static_cast<uint32_t>(RowTiles(args, args.max_rows, kWgmmaRows)),
                  static_cast<uint32_t>(args.layer.num_kv_heads),
                  static_cast<uint32_t>(args.num_sequences));
  Launch(context, "wgmma attention",
         {.grid = grid,
          .block = kWgmmaThreads,
          .shared_bytes = KvStages<kHeadDim>::kNumbers * sizeof(Bf16)},
         WgmmaKernel<kHeadDim>, args);
}

}  // namespace

void WgmmaAttention(const CudaContext& context, const CudaAttentionArgs& args) {
  if (args.layer.head_dim == 64) {
    LaunchWgmma<64>(context, args);
  } else if (args.layer.head_dim == 128) {
    LaunchWgmma<128>(context, args);
  } else {
    context.Note(cudaErrorInvalidValue, "wgmma attention");
  }
}

}  // namespace baton
