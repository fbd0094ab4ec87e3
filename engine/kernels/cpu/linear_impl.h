// Linear over a tile of rows and panels. Internal linkage on purpose: see vec_avx512.h.
#pragma once

#include <cstdint>

#include "engine/kernels/cpu/gemm_tile.h"
#include "engine/kernels/linear.h"

namespace baton {
namespace {

// The share of k whose part of a panel and of a block of input rows stays in the L2 cache. f32
// sums pass through memory between shares unchanged, so it does not affect results.
inline constexpr int64_t kShareOfK = 2048;
inline constexpr int64_t kInputInCache = 512 << 10;  // bytes of input that stay there whole

// A panel whose last columns are padding, through a buffer: the output has no room for them.
template <typename M>
void LinearPaddedPanel(const LinearArgs& args, TileArgs tile, int row_count, int32_t columns) {
  constexpr int kWidth = M::V::kLanes * M::kMaxVectors;
  alignas(64) float buffer[M::kMaxRows * kWidth];
  float* output = tile.c;
  tile.c = buffer;
  tile.c_stride = kWidth;
  const int vectors = (columns + M::V::kLanes - 1) / M::V::kLanes;
  FindTile<M>(row_count, vectors)(tile);
  for (int r = 0; r < row_count; ++r) {
    for (int32_t i = 0; i < columns; ++i) {
      output[r * static_cast<int64_t>(args.weights->n()) + i] = buffer[r * kWidth + i];
    }
  }
}

template <typename M>
void LinearPanel(const LinearArgs& args, const LinearTile& work, int32_t panel, int64_t k_begin,
                 int64_t k_end) {
  const PackedMatrix& weights = *args.weights;
  constexpr int32_t kWidth = M::V::kLanes * M::kMaxVectors;
  const int64_t k = weights.k();
  const int32_t first = panel * kWidth;
  const int32_t columns = weights.n() - first < kWidth ? weights.n() - first : kWidth;
  const int32_t stored_columns = (columns + M::V::kLanes - 1) / M::V::kLanes * M::V::kLanes;
  const bool padded = columns != stored_columns;
  if (padded) {  // all of k at once, with the last share
    if (k_end != k) return;
    k_begin = 0;
  }
  const auto* panel_data = reinterpret_cast<const typename M::B*>(weights.Panel(panel));
  TileArgs tile{.a_stride = k,
                .b = panel_data + k_begin * stored_columns,
                .b_stride = int64_t{stored_columns} * M::kStep,
                .steps = (k_end - k_begin + M::kStep - 1) / M::kStep,
                .c_stride = weights.n(),
                .accumulate = k_begin != 0};
  if (k_end == k && weights.bias() != nullptr) tile.bias = weights.bias() + first;
  const int32_t rows = work.row_end - work.row_begin;
  const int32_t passes = (rows + M::kMaxRows - 1) / M::kMaxRows;
  const int64_t step_bytes = tile.b_stride * static_cast<int64_t>(sizeof(typename M::B));
  for (int32_t pass = 0; pass < passes; ++pass) {
    const int32_t row = work.row_begin + rows * pass / passes;
    const int row_count = work.row_begin + rows * (pass + 1) / passes - row;
    if (passes > 1) {  // the next panel's comes from memory meanwhile, a part with each pass
      tile.ahead_lines = (kStepsAhead * step_bytes / kCacheLine + passes - 1) / passes;
      tile.ahead = weights.Panel(panel + 1) + k_begin / M::kStep * step_bytes +
                   pass * (tile.steps / kStepsAhead) * tile.ahead_lines * kCacheLine;
    }
    tile.a = static_cast<const typename M::A*>(args.input) + row * k + k_begin;
    tile.c = args.output + static_cast<int64_t>(row) * weights.n() + first;
    if (padded) {
      LinearPaddedPanel<M>(args, tile, row_count, columns);
    } else {
      FindTile<M>(row_count, stored_columns / M::V::kLanes)(tile);
    }
  }
}

template <typename M>
void LinearOnTile(const LinearArgs& args, const LinearTile& tile) {
  const int64_t k = args.weights->k();
  const int64_t input_bytes =
      (tile.row_end - tile.row_begin) * k * static_cast<int64_t>(sizeof(typename M::A));
  const int64_t share = input_bytes <= kInputInCache ? k : kShareOfK;
  for (int64_t k_begin = 0; k_begin < k; k_begin += share) {
    const int64_t k_end = k - k_begin < share ? k : k_begin + share;
    for (int32_t panel = tile.panel_begin; panel < tile.panel_end; ++panel) {
      LinearPanel<M>(args, tile, panel, k_begin, k_end);
    }
  }
}

}  // namespace
}  // namespace baton
