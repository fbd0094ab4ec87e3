// The inner loop of all matrix products: a few rows by a few vectors of columns held in registers.
// Internal linkage on purpose: see vec_avx512.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/bf16.h"
#include "engine/kernels/cpu/vec_math.h"

namespace baton {
namespace {

// A multiply type M names the element types and the instruction:
//   V           vector type; kStep: consecutive k of one multiply; kMaxRows x kMaxVectors fit the
//               registers
//   A, B        element types of the two inputs; BVec: B loaded for one multiply
//   LoadB(p)    [lanes, kStep] of B;  Broadcast(a): [kStep] of A to all lanes;  Dot(c, a, b)
//   Interleave(rows, width, out): [kAttentionTile, width] of B as a tile's b: in `out`, or `rows`

inline constexpr int64_t kCacheLine = 64;  // bytes

struct TileArgs {
  const void* a = nullptr;  // [rows, steps * kStep], rows a_stride elements apart
  int64_t a_stride = 0;
  const void* b = nullptr;  // [steps, columns, kStep], steps b_stride elements apart
  int64_t b_stride = 0;
  int64_t steps = 0;
  float* c = nullptr;  // [rows, columns], rows c_stride floats apart
  int64_t c_stride = 0;
  bool accumulate = false;  // c += a * b, else c = a * b
  // Every kStepsAhead steps ask for the next `ahead_lines` lines of memory from here.
  const std::byte* ahead = nullptr;
  int64_t ahead_lines = 0;
};
inline constexpr int64_t kStepsAhead = 4;

template <typename M, int kRows, int kVectors>
void Tile(const TileArgs& args) {
  using V = typename M::V;
  const auto* a = static_cast<const typename M::A*>(args.a);
  const auto* b = static_cast<const typename M::B*>(args.b);
  typename V::F sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = args.accumulate ? V::Load(args.c + r * args.c_stride + v * V::kLanes) : V::Zero();
    }
  }
  const std::byte* ahead = args.ahead;
  for (int64_t step = 0; step < args.steps; ++step) {
    if (step % kStepsAhead == 0) {
      for (int64_t line = 0; line < args.ahead_lines; ++line, ahead += kCacheLine) {
        __builtin_prefetch(ahead, 0, 2);
      }
    }
    typename M::BVec column[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) column[v] = M::LoadB(b + v * V::kLanes * M::kStep);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto row = M::Broadcast(a + r * args.a_stride);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = M::Dot(sum[r][v], row, column[v]);
    }
    a += M::kStep;
    b += args.b_stride;
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      V::Store(args.c + r * args.c_stride + v * V::kLanes, sum[r][v]);
    }
  }
}

using TileFn = void (*)(const TileArgs&);

// Tile<M, rows, vectors> for 1 <= rows <= kMaxRows, 1 <= vectors <= kMaxVectors.
template <typename M>
TileFn FindTile(int rows, int vectors) {
  if constexpr (M::kMaxVectors == 4) {
    static constexpr TileFn kTiles[6][4] = {
        {Tile<M, 1, 1>, Tile<M, 1, 2>, Tile<M, 1, 3>, Tile<M, 1, 4>},
        {Tile<M, 2, 1>, Tile<M, 2, 2>, Tile<M, 2, 3>, Tile<M, 2, 4>},
        {Tile<M, 3, 1>, Tile<M, 3, 2>, Tile<M, 3, 3>, Tile<M, 3, 4>},
        {Tile<M, 4, 1>, Tile<M, 4, 2>, Tile<M, 4, 3>, Tile<M, 4, 4>},
        {Tile<M, 5, 1>, Tile<M, 5, 2>, Tile<M, 5, 3>, Tile<M, 5, 4>},
        {Tile<M, 6, 1>, Tile<M, 6, 2>, Tile<M, 6, 3>, Tile<M, 6, 4>}};
    return kTiles[rows - 1][vectors - 1];
  } else {
    static constexpr TileFn kTiles[6][2] = {
        {Tile<M, 1, 1>, Tile<M, 1, 2>}, {Tile<M, 2, 1>, Tile<M, 2, 2>},
        {Tile<M, 3, 1>, Tile<M, 3, 2>}, {Tile<M, 4, 1>, Tile<M, 4, 2>},
        {Tile<M, 5, 1>, Tile<M, 5, 2>}, {Tile<M, 6, 1>, Tile<M, 6, 2>}};
    return kTiles[rows - 1][vectors - 1];
  }
}

// f32 inputs, weights of element type Weight.
template <typename Vec, typename Weight, int kVectors>
struct FmaMultiply {
  using V = Vec;
  using A = float;
  using B = Weight;
  using BVec = typename V::F;
  static constexpr int kStep = 1;
  static constexpr int kMaxRows = 6;
  static constexpr int kMaxVectors = kVectors;
  static BVec LoadB(const Weight* p) { return LoadAs<V>(p); }
  static typename V::F Broadcast(const float* p) { return V::Set1(*p); }
  static typename V::F Dot(typename V::F c, typename V::F a, BVec b) { return V::Fma(a, b, c); }
  static const Weight* Interleave(const Weight* rows, int32_t, Weight*) { return rows; }
};

}  // namespace
}  // namespace baton
