// How a thread block finds its way in one row of the vocabulary without sorting it: by histograms
// of the numbers' leading bits, then of the next ones, until one number is left. Included by .cu
// files only.
//
// Sums of weights are exact within a bucket, whose weights have one exponent, since significands
// are added as integers; so they do not depend on the order of atomic additions.
//
// Called by all threads of a block whose size is a multiple of 32, with equal arguments; all get
// the result.
#pragma once

#include <cstdint>

#include "common/ids.h"
#include "engine/kernels/cuda/ptx.h"

namespace baton {

inline constexpr int kMaxBuckets = 2048;
inline constexpr int kMaxSearchWarps = 32;

struct FoundBucket {
  int bucket;
  double before;  // what lies above the bucket
  double total;   // of all buckets
};

struct SearchMemory {
  uint32_t low[kMaxBuckets];   // counts, or the sums of the significands' lower 12 bits
  uint32_t high[kMaxBuckets];  // of their upper 12 bits
  int32_t warp_counts[kMaxSearchWarps];
  FoundBucket found;
  TokenId token;
};

// Numbers in the order of floats; both zeros are equal.
__device__ __forceinline__ uint32_t OrderedBits(float value) {
  const uint32_t bits = __float_as_uint(value == 0.0f ? 0.0f : value);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

template <typename Visit>
__device__ __forceinline__ void ForEachToken(int32_t vocab_size, Visit visit) {
  const auto step = static_cast<int32_t>(blockDim.x);
  for (auto i = static_cast<int32_t>(threadIdx.x); i < vocab_size; i += step) visit(i);
}

// `visit(first, vector)` for all whole vectors of four of a row, and `visit_one(i, value)` for what
// is left, or for all where the row is not aligned. A thread asks for several vectors before it
// looks at the first: a block has only so much of a row on its way. It meets its tokens by id.
template <typename Visit, typename VisitOne>
__device__ __forceinline__ void ForEachVector(const float* row, int32_t vocab_size, Visit visit,
                                              VisitOne visit_one) {
  constexpr int kNumbers = 4;
  constexpr int kAtOnce = 4;
  const auto step = static_cast<int32_t>(blockDim.x);
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const bool aligned = reinterpret_cast<uintptr_t>(row) % sizeof(float4) == 0;
  const int32_t count = aligned ? vocab_size / kNumbers : 0;
  const auto* vectors = reinterpret_cast<const float4*>(row);
  int32_t at = thread;
  for (; at + (kAtOnce - 1) * step < count; at += kAtOnce * step) {
    float4 loaded[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) loaded[i] = vectors[at + i * step];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) visit((at + i * step) * kNumbers, loaded[i]);
  }
  for (; at < count; at += step) visit(at * kNumbers, vectors[at]);
  for (int32_t i = count * kNumbers + thread; i < vocab_size; i += step) visit_one(i, row[i]);
}

// visit(i, row[i]) for all.
template <typename Visit>
__device__ __forceinline__ void ForEachValue(const float* row, int32_t vocab_size, Visit visit) {
  const auto visit_vector = [&](TokenId first, float4 values) {
    visit(first, values.x);
    visit(first + 1, values.y);
    visit(first + 2, values.z);
    visit(first + 3, values.w);
  };
  ForEachVector(row, vocab_size, visit_vector, visit);
}

// output[i] = of(i, row[i]) for all.
template <typename Of>
__device__ __forceinline__ void MapRow(const float* row, int32_t vocab_size, float* output, Of of) {
  const auto map_one = [&](TokenId i, float value) { output[i] = of(i, value); };
  if (reinterpret_cast<uintptr_t>(output) % sizeof(float4) != 0) {
    return ForEachValue(row, vocab_size, map_one);
  }
  const auto map_vector = [&](TokenId first, float4 values) {
    *reinterpret_cast<float4*>(output + first) =
        make_float4(of(first, values.x), of(first + 1, values.y), of(first + 2, values.z),
                    of(first + 3, values.w));
  };
  ForEachVector(row, vocab_size, map_vector, map_one);
}

__device__ __forceinline__ void ClearBuckets(SearchMemory& memory) {
  __syncthreads();
  ForEachToken(kMaxBuckets, [&](int32_t i) {
    memory.low[i] = 0;
    memory.high[i] = 0;
  });
  __syncthreads();
}

// From the highest of `buckets` (a multiple of 32) down: the first at which `crosses(reached,
// total)` becomes true; the lowest one that is not empty where rounding keeps it false.
template <typename ValueOf, typename Crosses>
__device__ __forceinline__ FoundBucket FindBucket(SearchMemory& memory, int buckets, double before,
                                                  ValueOf value_of, Crosses crosses) {
  __syncthreads();
  if (threadIdx.x < kWarpSize) {
    const auto lane = static_cast<int>(threadIdx.x);
    const int of_lane = buckets / kWarpSize;
    const int first = buckets - 1 - lane * of_lane;
    double sum = 0;
    for (int i = 0; i < of_lane; ++i) sum += value_of(first - i);
    double end = sum;
    for (int delta = 1; delta < kWarpSize; delta *= 2) {
      const double other = __shfl_up_sync(kFullWarp, end, static_cast<unsigned>(delta));
      if (lane >= delta) end += other;
    }
    const double total = before + __shfl_sync(kFullWarp, end, kWarpSize - 1);
    const double above = __shfl_up_sync(kFullWarp, end, 1);
    const unsigned filled = __ballot_sync(kFullWarp, sum > 0);
    const unsigned crossing = __ballot_sync(kFullWarp, sum > 0 && crosses(before + end, total));
    const int chosen = crossing != 0 ? __ffs(static_cast<int>(crossing)) - 1
                                     : kWarpSize - 1 - __clz(static_cast<int>(filled));
    if (lane == chosen) {
      FoundBucket found{.bucket = 0, .before = before, .total = total};
      double reached = lane == 0 ? before : before + above;
      for (int i = 0; i < of_lane; ++i) {
        const double value = value_of(first - i);
        if (value == 0) continue;
        found.bucket = first - i;
        found.before = reached;
        reached += value;
        if (crosses(reached, total)) break;
      }
      memory.found = found;
    }
  }
  __syncthreads();
  return memory.found;
}

// The lowest token for which `holds`; vocab_size if there is none.
template <typename Holds>
__device__ __forceinline__ TokenId FindFirst(SearchMemory& memory, int32_t vocab_size,
                                             Holds holds) {
  __syncthreads();
  if (threadIdx.x == 0) memory.token = vocab_size;
  __syncthreads();
  TokenId first = vocab_size;
  ForEachToken(vocab_size, [&](TokenId i) {
    if (first == vocab_size && holds(i)) first = i;
  });
  if (first < vocab_size) atomicMin(&memory.token, first);
  __syncthreads();
  return memory.token;
}

// The `nth` token by id, from 1 on, of those for which `holds`. REQUIRES: there are as many.
template <typename Holds>
__device__ __forceinline__ TokenId FindNth(SearchMemory& memory, int32_t vocab_size, Holds holds,
                                           int32_t nth) {
  if (nth == 1) return FindFirst(memory, vocab_size, holds);
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int warp = thread / kWarpSize;
  for (int32_t first = 0; first < vocab_size; first += static_cast<int32_t>(blockDim.x)) {
    const TokenId token = first + thread;
    const bool here = token < vocab_size && holds(token);
    const int count = __syncthreads_count(here);
    if (nth > count) {
      nth -= count;
      continue;
    }
    const unsigned ballot = __ballot_sync(kFullWarp, here);
    if (thread % kWarpSize == 0) memory.warp_counts[warp] = __popc(ballot);
    __syncthreads();
    int rank = 1 + __popc(ballot & ((1u << (thread % kWarpSize)) - 1));
    for (int w = 0; w < warp; ++w) rank += memory.warp_counts[w];
    if (here && rank == nth) memory.token = token;
    __syncthreads();
    return memory.token;
  }
  return 0;
}

// The tokens above a place in an order: those of larger bits, of equal bits those up to `token`.
struct OrderCut {
  uint32_t bits;
  TokenId token;
  __device__ __forceinline__ bool Keeps(uint32_t other, TokenId id) const {
    return other > bits || (other == bits && id <= token);
  }
};

// The place of the `nth` token, from 1 on, of those for which `holds`, by `values` (largest first,
// OrderedBits), then by id. Null `values`: by id. REQUIRES: there are as many.
template <typename Holds>
__device__ __forceinline__ OrderCut SelectNth(SearchMemory& memory, const float* values,
                                              int32_t vocab_size, Holds holds, int32_t nth) {
  if (values == nullptr) return {0, FindNth(memory, vocab_size, holds, nth)};
  constexpr int kShifts[] = {21, 10, 0};
  constexpr int kBuckets[] = {2048, 2048, 1024};
  uint32_t above = 0;  // the bits that are known
  double before = 0;
  for (int level = 0; level < 3; ++level) {
    const int shift = kShifts[level];
    const auto mask = static_cast<uint32_t>(kBuckets[level] - 1);
    ClearBuckets(memory);
    ForEachValue(values, vocab_size, [&](TokenId i, float value) {
      if (!holds(i)) return;
      const uint32_t bits = OrderedBits(value) >> shift;
      if ((bits & ~mask) == above) atomicAdd(&memory.low[bits & mask], 1u);
    });
    const FoundBucket found = FindBucket(
        memory, kBuckets[level], before, [&](int b) { return static_cast<double>(memory.low[b]); },
        [&](double reached, double) { return reached >= nth; });
    before = found.before;
    above |= static_cast<uint32_t>(found.bucket);
    if (level < 2) above <<= level == 0 ? 11 : 10;
  }
  const auto equal = [&](TokenId i) { return holds(i) && OrderedBits(values[i]) == above; };
  return {above, FindNth(memory, vocab_size, equal, nth - static_cast<int32_t>(before))};
}

// A place in the weights of a row, largest first.
struct WeightPlace {
  float weight;
  int32_t nth;    // of those of this weight, from 1 on
  int32_t count;  // of those of this weight
};

// Where, from the largest of `weights` down, the sum comes to be larger than `share` of the total,
// or, if `inclusive`, as large. REQUIRES: weights are 0 or normal numbers up to 1, not all 0.
__device__ __forceinline__ WeightPlace FindShare(SearchMemory& memory, const float* weights,
                                                 int32_t vocab_size, double share, bool inclusive) {
  constexpr int kBuckets = 1024;
  constexpr int kSignificandBits = 23;
  uint32_t above = 0;
  double before = 0;
  double target = 0;
  for (int shift = 20; shift >= 0; shift -= 10) {
    ClearBuckets(memory);
    ForEachValue(weights, vocab_size, [&](TokenId, float weight) {
      const uint32_t bits = __float_as_uint(weight);
      if (bits == 0 || (shift < 20 && bits >> (shift + 10) != above)) return;
      const uint32_t significand = (bits & 0x7fffffu) | 0x800000u;
      const uint32_t bucket = (bits >> shift) & (kBuckets - 1);
      atomicAdd(&memory.low[bucket], significand & 0xfffu);
      atomicAdd(&memory.high[bucket], significand >> 12);
    });
    const auto value_of = [&](int bucket) {
      const uint32_t bits = ((above << 10) | static_cast<uint32_t>(bucket)) << shift;
      const uint64_t exponent = (bits >> kSignificandBits) + 1023 - 127 - kSignificandBits;
      const double unit = __builtin_bit_cast(double, exponent << 52);
      return (memory.high[bucket] * 4096.0 + memory.low[bucket]) * unit;
    };
    const bool first = shift == 20;
    const FoundBucket found =
        FindBucket(memory, kBuckets, before, value_of, [&](double reached, double total) {
          const double wanted = first ? total * share : target;
          return inclusive ? reached >= wanted : reached > wanted;
        });
    if (first) target = found.total * share;
    before = found.before;
    above = (above << 10) | static_cast<uint32_t>(found.bucket);
  }
  const uint64_t sum =
      uint64_t{memory.high[above % kBuckets]} * 4096 + memory.low[above % kBuckets];
  WeightPlace place{.weight = __uint_as_float(above), .nth = 1, .count = 0};
  place.count = static_cast<int32_t>(sum / ((above & 0x7fffffu) | 0x800000u));
  const double weight = place.weight;
  const auto crosses = [&](int32_t nth) {
    const double reached = before + nth * weight;
    return inclusive ? reached >= target : reached > target;
  };
  const double near = (target - before) / weight;
  place.nth = near < 1 ? 1 : near > place.count ? place.count : static_cast<int32_t>(near);
  while (place.nth > 1 && crosses(place.nth - 1)) --place.nth;
  while (place.nth < place.count && !crosses(place.nth)) ++place.nth;
  return place;
}

}  // namespace baton
