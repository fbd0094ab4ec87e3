// Attention of many rows by mma.sync: see attention.h.
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
#include "engine/kernels/cuda/prefill_kernels.h"
#include "engine/kernels/cuda/ptx.h"

namespace baton {
namespace {

inline constexpr int32_t kPrefillRows = kMmaRows * kAttentionWarps;

template <int32_t kHeadDim>
struct PrefillShape {
  static constexpr int32_t kSlots = kHeadDim == 64 ? 4 : 2;
  // Else there would be no registers left.
  static constexpr bool kKeepsQueries = kHeadDim <= 128;
  // At once on a multiprocessor that has the shared memory. The third with a head dim of 128 takes
  // so many registers that about 20 of 1200 instructions of a tile load what was put aside.
  static constexpr int32_t kBlocks = kHeadDim == 64 ? 4 : kHeadDim <= 128 ? 3 : 1;
  static constexpr int32_t kColumns = kHeadDim / kMmaColumns;
  static constexpr int32_t kSteps = kHeadDim / kMmaDepth;
  using Ring = KvRing<kHeadDim, kSlots>;

  // Shared memory: the ring, queries unless they are kept, the state of earlier ranges.
  static constexpr int32_t kQueryNumbers = kKeepsQueries ? 0 : kPrefillRows * kHeadDim;
  static constexpr size_t kRestNumbers = (kColumns + 1) * 4 * kAttentionThreads;
  static constexpr size_t kSharedBytes =
      (Ring::kNumbers + kQueryNumbers) * sizeof(Bf16) + kRestNumbers * sizeof(float);
};

// The 16 rows of a warp, in registers or where they were copied to.
template <int32_t kHeadDim, bool kKept = PrefillShape<kHeadDim>::kKeepsQueries>
class WarpQueries {
 public:
  __device__ explicit WarpQueries(const Bf16* shared) {
#pragma unroll
    for (int32_t step = 0; step < kSteps; ++step) {
      LoadQueries(shared, QueryRow<kHeadDim>(kMmaRows * Warp()), step, kept_[step]);
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
  __device__ explicit WarpQueries(const Bf16* shared)
      : shared_(shared), row_(QueryRow<kHeadDim>(kMmaRows * Warp())) {}
  __device__ void Load(int32_t step, uint32_t (&fragment)[4]) const {
    LoadQueries(shared_, row_, step, fragment);
  }

 private:
  const Bf16* shared_;
  const SharedRow<kHeadDim> row_;
};

// What a thread holds of the output of its warp's rows, over the keys met so far.
template <int32_t kHeadDim>
struct PrefillState {
  static constexpr int32_t kNumbers = PrefillShape<kHeadDim>::kColumns * 4;
  RowSoftmax softmax;
  float output[PrefillShape<kHeadDim>::kColumns][4] = {};
};

// Merges a range of keys, `state`, behind those whose state rests in shared memory, if there are
// any before. rest: of this thread, its numbers kAttentionThreads apart.
template <int32_t kHeadDim>
__device__ __forceinline__ void MergeBehind(const float* rest, float scale_log2,
                                            PrefillState<kHeadDim>& state) {
  MergeFactors factors[2];
#pragma unroll
  for (int32_t half = 0; half < 2; ++half) {
    const float* row = rest + (state.kNumbers + 2 * half) * kAttentionThreads;
    float& maximum = state.softmax.maxima[half];
    float& sum = state.softmax.sums[half];
    factors[half] = FactorsOfMerge(row[0], maximum, scale_log2);
    maximum = factors[half].maximum;
    sum = Merge(factors[half], row[kAttentionThreads], sum);
  }
#pragma unroll
  for (int32_t i = 0; i < state.kNumbers; ++i) {
    float& number = state.output[i / 4][i % 4];
    number = Merge(factors[i % 4 / 2], rest[i * kAttentionThreads], number);
  }
}
// Puts the state there; the next range starts anew.
template <int32_t kHeadDim>
__device__ __forceinline__ void PutToRest(float* rest, PrefillState<kHeadDim>& state) {
#pragma unroll
  for (int32_t i = 0; i < state.kNumbers; ++i) {
    rest[i * kAttentionThreads] = state.output[i / 4][i % 4];
  }
#pragma unroll
  for (int32_t half = 0; half < 2; ++half) {
    float* row = rest + (state.kNumbers + 2 * half) * kAttentionThreads;
    row[0] = state.softmax.maxima[half];
    row[kAttentionThreads] = state.softmax.sums[half];
  }
  state = {};
}

// Tiles [begin, end), which are next in the ring.
template <int32_t kHeadDim>
__device__ __forceinline__ void AttendRange(const CudaAttentionArgs& args,
                                            const WarpQueries<kHeadDim>& queries,
                                            const int32_t (&positions)[2], int32_t begin,
                                            int32_t end, float scale_log2,
                                            const typename PrefillShape<kHeadDim>::Ring& ring,
                                            PrefillState<kHeadDim>& state) {
  for (int32_t tile = begin; tile < end; tile += kAttentionTile) {
    const Bf16* keys = ring.template Next<0>(tile);
    const SharedRow<kHeadDim> key_row = KeyRow<kHeadDim>(0).OfTile(tile);
    float scores[kScoreColumns][4] = {};
#pragma unroll
    for (int32_t step = 0; step < PrefillShape<kHeadDim>::kSteps; ++step) {
      uint32_t query[4];
      queries.Load(step, query);
      AddScores<kHeadDim, kScoreColumns / 2>(query, keys, key_row, step, scores);
    }
    WeightFragments weights;
    TakeScores(scores, args, positions, tile, scale_log2, state.softmax, state.output, weights);
    const Bf16* values = ring.template Next<1>(tile);
    AddValues(weights, values, ValueRow<kHeadDim>().OfTile(tile), 0, state.output);
  }
  SumOverLanes(state.softmax);
}

// All keys of a tile of rows.
template <int32_t kHeadDim>
__device__ __forceinline__ void AttendAll(const CudaAttentionArgs& args, const RowTile& rows,
                                          PrefillState<kHeadDim>& state) {
  using Shape = PrefillShape<kHeadDim>;
  auto* slots = DynamicShared<Bf16>();
  Bf16* after_slots = slots + Shape::Ring::kNumbers;
  float* rest = reinterpret_cast<float*>(after_slots + Shape::kQueryNumbers) + threadIdx.x;
  const KeyBounds seen = rows.AllBounds(kPrefillRows);
  const KvSource source(args, rows, seen);
  const float scale_log2 = args.scale * kLog2E;
  const int32_t first = seen.first / kAttentionTile * kAttentionTile;
  const int32_t end = seen.last + 1;
  const typename Shape::Ring ring(source, end, slots);
  // Queries that are kept pass through a place of the ring that is still free.
  Bf16* shared_queries = Shape::kKeepsQueries ? ring.Free(first) : after_slots;
  CopyQueries<kHeadDim, kPrefillRows>(rows, shared_queries);
  CpAsyncCommit();
  ring.Start(first);
  __syncthreads();
  const WarpQueries<kHeadDim> queries(shared_queries);
  const int32_t row = kMmaRows * Warp();
  const int32_t positions[2] = {rows.LastKey(row + FragmentRow(0)),
                                rows.LastKey(row + FragmentRow(1))};
  for (int32_t begin = first; begin < end;) {
    const int32_t range_end = min(end, RangeBegin(args, RangeOf(args, begin) + 1));
    AttendRange(args, queries, positions, begin, range_end, scale_log2, ring, state);
    if (begin > first) MergeBehind(rest, scale_log2, state);
    if (range_end < end) PutToRest(rest, state);
    begin = range_end;
  }
}

template <int32_t kHeadDim>
__global__ void __launch_bounds__(kAttentionThreads, PrefillShape<kHeadDim>::kBlocks)
    PrefillKernel(const CudaAttentionArgs args) {
  WaitForPreviousGrid();
  PrefillState<kHeadDim> state;
  {
    const RowTile rows = RowsOfBlock(args, kPrefillRows);
    if (rows.begin() < 0) return;
    AttendAll(args, rows, state);
  }
  // Once more, so that no registers are taken by it meanwhile.
  StoreRows(RowsOfBlock(args, kPrefillRows), state.softmax, state.output);
}

}  // namespace

size_t AttentionSharedBytes(int32_t head_dim) {
  size_t bytes = 0;
  WithHeadDim(head_dim, [&]<int32_t kHeadDim>(std::integral_constant<int32_t, kHeadDim>) {
    bytes = PrefillShape<kHeadDim>::kSharedBytes;  // more than decode needs
  });
  return bytes;
}

void MmaAttention(const CudaContext& context, const CudaAttentionArgs& args) {
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
