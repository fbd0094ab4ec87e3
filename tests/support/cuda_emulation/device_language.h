// CUDA C++ as ordinary C++: its qualifiers, barriers, warp collectives, atomics and intrinsics, as
// far as our kernels use them. Names and meanings: CUDA C++ Programming Guide.
#pragma once

#include <math.h>

#include <bit>
#include <cstdint>
#include <type_traits>

#include "tests/support/cuda_emulation/block.h"
#include "tests/support/cuda_emulation/observer.h"
#include "tests/support/cuda_emulation/vector_types.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static __attribute__((section("baton_cuda_shared")))  // so that it is found
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))

inline void __syncthreads(
    const baton::cuda_emulation::Place& where = baton::cuda_emulation::Place::Here()) {
  baton::cuda_emulation::SyncThreads(where);
}
inline int __syncthreads_count(int predicate, const baton::cuda_emulation::Place& where =
                                                  baton::cuda_emulation::Place::Here()) {
  return baton::cuda_emulation::SyncThreadsCount(predicate != 0, where);
}
inline int __syncthreads_or(int predicate, const baton::cuda_emulation::Place& where =
                                               baton::cuda_emulation::Place::Here()) {
  return __syncthreads_count(predicate, where) > 0;
}
inline int __syncthreads_and(int predicate, const baton::cuda_emulation::Place& where =
                                                baton::cuda_emulation::Place::Here()) {
  return __syncthreads_count(predicate == 0, where) == 0;
}
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace baton::cuda_emulation {

inline void CombineBarrier(const WarpExchange& exchange) {
  if (observer != nullptr) observer->WarpMeets(exchange.first_thread, exchange.mask);
}

template <typename T>
struct ShuffleLane {
  T value;
  int source;
  T result;
};

template <typename T>
void CombineShuffle(const WarpExchange& exchange) {
  for (int lane = 0; lane < kLanes; ++lane) {
    auto* to = static_cast<ShuffleLane<T>*>(exchange.lanes[lane]);
    if (to == nullptr) continue;
    const auto* from = static_cast<const ShuffleLane<T>*>(exchange.lanes[to->source]);
    if (from == nullptr) {
      Fail("a shuffle from a lane that takes no part", baton::cuda_emulation::Place::Here());
    }
    to->result = from->value;
  }
}

template <typename T>
T Shuffle(uint32_t mask, T value, int source, const baton::cuda_emulation::Place& where) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  ShuffleLane<T> lane{.value = value, .source = source, .result = value};
  WarpCollective(mask, &lane, &CombineShuffle<T>, where);
  return lane.result;
}

struct BallotLane {
  bool predicate;
  uint32_t result;
};
inline void CombineBallot(const WarpExchange& exchange) {
  uint32_t ballot = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto* from = static_cast<const BallotLane*>(exchange.lanes[lane]);
    if (from != nullptr && from->predicate) ballot |= 1u << lane;
  }
  for (void* to : exchange.lanes) {
    if (to != nullptr) static_cast<BallotLane*>(to)->result = ballot;
  }
}

}  // namespace baton::cuda_emulation

inline void __syncwarp(unsigned mask = 0xffffffffu, const baton::cuda_emulation::Place& where =
                                                        baton::cuda_emulation::Place::Here()) {
  char nothing = 0;
  baton::cuda_emulation::WarpCollective(mask, &nothing, &baton::cuda_emulation::CombineBarrier,
                                        where);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              const baton::cuda_emulation::Place& where = baton::cuda_emulation::Place::Here()) {
  const int first = baton::cuda_emulation::LaneIndex() & ~(width - 1);
  return baton::cuda_emulation::Shuffle(mask, value, first | (source & (width - 1)), where);
}
template <typename T>
T __shfl_xor_sync(
    unsigned mask, T value, int lane_mask, int width = 32,
    const baton::cuda_emulation::Place& where = baton::cuda_emulation::Place::Here()) {
  const int self = baton::cuda_emulation::LaneIndex();
  const int source = self ^ lane_mask;
  const bool beyond = source >= (self & ~(width - 1)) + width;
  return baton::cuda_emulation::Shuffle(mask, value, beyond ? self : source, where);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 const baton::cuda_emulation::Place& where = baton::cuda_emulation::Place::Here()) {
  const int self = baton::cuda_emulation::LaneIndex();
  const int source = self - static_cast<int>(delta);
  const bool beyond = source < (self & ~(width - 1));
  return baton::cuda_emulation::Shuffle(mask, value, beyond ? self : source, where);
}
template <typename T>
T __shfl_down_sync(
    unsigned mask, T value, unsigned delta, int width = 32,
    const baton::cuda_emulation::Place& where = baton::cuda_emulation::Place::Here()) {
  const int self = baton::cuda_emulation::LaneIndex();
  const int source = self + static_cast<int>(delta);
  const bool beyond = source >= (self & ~(width - 1)) + width;
  return baton::cuda_emulation::Shuffle(mask, value, beyond ? self : source, where);
}
inline unsigned __ballot_sync(
    unsigned mask, int predicate,
    const baton::cuda_emulation::Place& where = baton::cuda_emulation::Place::Here()) {
  baton::cuda_emulation::BallotLane lane{.predicate = predicate != 0, .result = 0};
  baton::cuda_emulation::WarpCollective(mask, &lane, &baton::cuda_emulation::CombineBallot, where);
  return lane.result;
}
inline int __any_sync(
    unsigned mask, int predicate,
    const baton::cuda_emulation::Place& where = baton::cuda_emulation::Place::Here()) {
  return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(
    unsigned mask, int predicate,
    const baton::cuda_emulation::Place& where = baton::cuda_emulation::Place::Here()) {
  return __ballot_sync(mask, predicate, where) == mask;
}

namespace baton::cuda_emulation {

// Threads take turns, so that plain reads and writes are atomic.
template <typename T, typename Next>
T Atomically(T* at, Next next) {
  const AtomicScope scope(at, sizeof(T));
  const T old = *at;
  *at = static_cast<T>(next(old));
  return old;
}

}  // namespace baton::cuda_emulation

template <typename T>
T atomicExch(T* at, std::type_identity_t<T> value) {
  return baton::cuda_emulation::Atomically(at, [=](T) { return value; });
}
template <typename T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
  return baton::cuda_emulation::Atomically(at, [=](T old) { return old + value; });
}
template <typename T>
T atomicMax(T* at, std::type_identity_t<T> value) {
  return baton::cuda_emulation::Atomically(at, [=](T old) { return value > old ? value : old; });
}
template <typename T>
T atomicMin(T* at, std::type_identity_t<T> value) {
  return baton::cuda_emulation::Atomically(at, [=](T old) { return value < old ? value : old; });
}
template <typename T>
T atomicOr(T* at, std::type_identity_t<T> value) {
  return baton::cuda_emulation::Atomically(at, [=](T old) { return old | value; });
}
template <typename T>
T atomicAnd(T* at, std::type_identity_t<T> value) {
  return baton::cuda_emulation::Atomically(at, [=](T old) { return old & value; });
}
template <typename T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return baton::cuda_emulation::Atomically(at,
                                           [=](T old) { return old == expected ? value : old; });
}

template <typename T>
T __ldg(const T* at) {
  return *at;
}
template <typename T>
T __ldca(const T* at) {
  return *at;
}
template <typename T>
T __ldcs(const T* at) {
  return *at;
}
template <typename T>
T __ldcg(const T* at) {
  return *at;
}
template <typename T>
void __stcs(T* at, T value) {
  *at = value;
}
template <typename T>
void __stcg(T* at, T value) {
  *at = value;
}

inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>((Wide{x} * y) >> 64);
}
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }

inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

template <typename T>
requires std::is_arithmetic_v<T> T min(T x, T y) { return y < x ? y : x; }
template <typename T>
requires std::is_arithmetic_v<T> T max(T x, T y) { return x < y ? y : x; }
