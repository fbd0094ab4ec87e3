// Attention of many rows: see attention.h.
//
// A thread block takes 64 rows and one KV head, over all keys that the rows see. Each of its four
// warps has 16 rows, whose queries (up to a head dim of 128), scores and output stay in registers,
// as in FlashAttention-2 (Dao 2023). Keys of the next tile come while a tile's values are used, and
// its values while its keys are. What the ranges of keys that lie behind have given rests in shared
// memory.
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "engine/kernels/cuda/attention.h"
#include "engine/kernels/cuda/attention_rows.h"
#include "engine/kernels/cuda/attention_shared.h"
#include "engine/kernels/cuda/attention_softmax.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/ptx.h"

namespace baton {
namespace {

inline constexpr int32_t kPrefillRows = kMmaRows * kAttentionWarps;

template <int32_t kHeadDim>
struct PrefillShape {
  static constexpr int32_t kSlots = kHeadDim == 64 ? 4 : 2;
  // Else there would be no registers left.
  static constexpr bool kKeepsQueries = kHeadDim <= 128;
  static constexpr int32_t kBlocks = kHeadDim == 64 ? 4 : kHeadDim <= 128 ? 3 : 1;
  static constexpr int32_t kColumns = kHeadDim / kMmaColumns;
  static constexpr int32_t kSteps = kHeadDim / kMmaDepth;
  using Ring = KvRing<kHeadDim, kSlots>;

  // Shared memory: the ring, queries unless they are kept, totals.
  static constexpr int32_t kQueryNumbers = kKeepsQueries ? 0 : kPrefillRows * kHeadDim;
  static constexpr size_t kTotalNumbers = size_t{kPrefillRows} * kHeadDim;
  static constexpr size_t kSharedBytes =
      (Ring::kNumbers + kQueryNumbers) * sizeof(Bf16) + kTotalNumbers * sizeof(float);
};

// The 16 rows of a warp, in registers or where they were copied to.
template <int32_t kHeadDim, bool kKept = PrefillShape<kHeadDim>::kKeepsQueries>
class WarpQueries {
 public:
  __device__ explicit WarpQueries(const Bf16* shared) {
#pragma unroll
    for (int32_t step = 0; step < kSteps; ++step) {
      LoadQueries<kHeadDim>(shared, kMmaRows * Warp(), step, kept_[step]);
    }
  }
  __device__ void Load(int32_t step, uint32_t (&fragment)[4]) const {
#pragma unroll
    for (int32_t i = 0; i < 4; ++i) fragment[i] = kept_[step][i];
  }

 private:
  static constexpr int32_t kSteps = PrefillShape<kHeadDim>::kSteps;
  uint32_t kept_[kSteps][4];
};
template <int32_t kHeadDim>
class WarpQueries<kHeadDim, false> {
 public:
  __device__ explicit WarpQueries(const Bf16* shared) : shared_(shared) {}
  __device__ void Load(int32_t step, uint32_t (&fragment)[4]) const {
    LoadQueries<kHeadDim>(shared_, kMmaRows * Warp(), step, fragment);
  }

 private:
  const Bf16* shared_;
};

// Merges a range of keys behind those of `total`, whose output rests in `rest` (of this thread, its
// numbers kAttentionThreads apart). `first`: nothing rests there yet. `last`: all ends up in
// `total` and `output`; else the next range starts anew.
template <int32_t kColumns>
__device__ void EndRange(RowSoftmax& softmax, float scale_log2, bool first, bool last,
                         RowSoftmax& total, float (&output)[kColumns][4], float* rest) {
  SumOverLanes(softmax);
  MergeFactors factors[2];
#pragma unroll
  for (int32_t half = 0; half < 2; ++half) {
    factors[half] = FactorsOfMerge(total.maxima[half], softmax.maxima[half], scale_log2);
    total.maxima[half] = factors[half].maximum;
    total.sums[half] = Merge(factors[half], total.sums[half], softmax.sums[half]);
  }
  // What is added to nothing stays as it is.
  if (!first) {
#pragma unroll
    for (int32_t i = 0; i < 4 * kColumns; ++i) {
      float& number = output[i / 4][i % 4];
      number = Merge(factors[i % 4 / 2], rest[i * kAttentionThreads], number);
    }
  }
  if (!last) {
#pragma unroll
    for (int32_t i = 0; i < 4 * kColumns; ++i) {
      rest[i * kAttentionThreads] = output[i / 4][i % 4];
      output[i / 4][i % 4] = 0.0f;
    }
  }
  softmax = {};
}

// All keys of a tile of rows; leaves the sums of weights in `total`.
template <int32_t kHeadDim>
__device__ __forceinline__ void AttendAll(const CudaAttentionArgs& args, const RowTile& rows,
                                          RowSoftmax& total,
                                          float (&output)[PrefillShape<kHeadDim>::kColumns][4]) {
  using Shape = PrefillShape<kHeadDim>;
  auto* slots = DynamicShared<Bf16>();
  Bf16* after_slots = slots + Shape::Ring::kNumbers;
  auto* totals = reinterpret_cast<float*>(after_slots + Shape::kQueryNumbers);
  // Queries that are kept pass through a place of the ring that is still free.
  Bf16* shared_queries =
      Shape::kKeepsQueries ? after_slots - TileShape<kHeadDim>::kKvNumbers : after_slots;
  CopyQueries<kHeadDim, kPrefillRows>(rows, shared_queries);
  CpAsyncCommit();
  const KeyBounds seen = rows.AllBounds(kPrefillRows);
  const KvSource source(args, rows, seen);
  const float scale_log2 = args.scale * kLog2E;
  const int32_t begin = seen.first / kAttentionTile * kAttentionTile;
  const int32_t end = seen.last + 1;
  typename Shape::Ring ring(source, begin, end, slots);
  ring.WaitForEarlier();
  __syncthreads();
  const WarpQueries<kHeadDim> queries(shared_queries);
  const int32_t row = kMmaRows * Warp();
  const KeyBounds bounds[2] = {rows.Bounds(row + FragmentRow(0)),
                               rows.Bounds(row + FragmentRow(1))};
  RowSoftmax softmax;
  bool first_range = true;
  for (int32_t tile = begin; tile < end; tile += kAttentionTile) {
    const Bf16* keys = ring.Next();
    float scores[kScoreColumns][4] = {};
#pragma unroll
    for (int32_t step = 0; step < Shape::kSteps; ++step) {
      uint32_t query[4];
      queries.Load(step, query);
      AddScores<kHeadDim, kScoreColumns / 2>(query, keys, 0, step, scores);
    }
    WeightFragments weights;
    TakeScores(scores, bounds, tile, scale_log2, softmax, output, weights);
    const Bf16* values = ring.Next();
    AddValues<kHeadDim>(weights, values, 0, output);
    const int32_t next = tile + kAttentionTile;
    if (next >= end || next % kKeyRange == 0) {
      EndRange(softmax, scale_log2, first_range, next >= end, total, output, totals + threadIdx.x);
      first_range = false;
    }
  }
}

__device__ __forceinline__ RowTile RowsOfBlock(const CudaAttentionArgs& args) {
  const CudaSequence sequence = args.sequences[blockIdx.z];
  // The last rows have the most keys: long work should start early.
  const int32_t tiles = RowTiles(args, sequence.num_rows, kPrefillRows);
  return RowTile(args, sequence, static_cast<int32_t>(blockIdx.y),
                 (tiles - 1 - static_cast<int32_t>(blockIdx.x)) * kPrefillRows);
}

template <int32_t kHeadDim>
__global__ void __launch_bounds__(kAttentionThreads, PrefillShape<kHeadDim>::kBlocks)
    PrefillKernel(const CudaAttentionArgs args) {
  RowSoftmax total;
  float output[PrefillShape<kHeadDim>::kColumns][4] = {};
  {
    const RowTile rows = RowsOfBlock(args);
    if (rows.begin() < 0) return;
    AttendAll<kHeadDim>(args, rows, total, output);
  }
  // Once more, so that no registers are taken by it meanwhile.
  const RowTile rows = RowsOfBlock(args);
#pragma unroll
  for (int32_t half = 0; half < 2; ++half) {
    const int32_t row = kMmaRows * Warp() + FragmentRow(half);
    if (rows.Has(row)) StoreOutput(output, half, 1.0f / total.sums[half], 0, rows.Output(row));
  }
}

}  // namespace

size_t AttentionSharedBytes(int32_t head_dim) {
  size_t bytes = 0;
  WithHeadDim(head_dim, [&]<int32_t kHeadDim>(std::integral_constant<int32_t, kHeadDim>) {
    bytes = PrefillShape<kHeadDim>::kSharedBytes;  // more than decode needs
  });
  return bytes;
}

void PrefillAttention(const CudaContext& context, const CudaAttentionArgs& args) {
  const dim3 grid(static_cast<uint32_t>(RowTiles(args, args.max_rows, kPrefillRows)),
                  static_cast<uint32_t>(args.layer.num_kv_heads),
                  static_cast<uint32_t>(args.num_sequences));
  const bool known = WithHeadDim(args.layer.head_dim,
                                 [&]<int32_t kHeadDim>(std::integral_constant<int32_t, kHeadDim>) {
                                   Launch(context, "prefill attention",
                                          {.grid = grid,
                                           .block = kAttentionThreads,
                                           .shared_bytes = PrefillShape<kHeadDim>::kSharedBytes},
                                          PrefillKernel<kHeadDim>, args);
                                 });
  if (!known) context.Note(cudaErrorInvalidValue, "prefill attention");
}

}  // namespace baton
