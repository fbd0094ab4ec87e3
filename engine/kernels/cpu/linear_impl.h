// Linear over a tile of rows and panels. Internal linkage on purpose: see vec_avx512.h.
#pragma once

#include <cstdint>

#include "engine/kernels/cpu/epilogue_impl.h"
#include "engine/kernels/cpu/gemm_tile.h"
#include "engine/kernels/linear.h"

namespace baton {
namespace {

// A share of k of one panel, for all rows of a tile.
struct PanelShare {
  int32_t panel = 0;
  int64_t k_begin = 0;
  int64_t k_end = 0;
  float* sums = nullptr;             // [rows, panel_columns], between shares; null: all of k
  const std::byte* ahead = nullptr;  // weights of the share that comes next
};

template <typename M>
int32_t StoredColumns(const PackedMatrix& weights, int32_t panel) {
  constexpr int32_t kWidth = M::V::kLanes * M::kMaxVectors;
  const int32_t left = weights.n() - panel * kWidth;
  return left < kWidth ? (left + M::V::kLanes - 1) / M::V::kLanes * M::V::kLanes : kWidth;
}

template <typename M>
const std::byte* WeightsAt(const PackedMatrix& weights, int32_t panel, int64_t k) {
  return weights.Panel(panel) +
         k * StoredColumns<M>(weights, panel) * static_cast<int64_t>(sizeof(typename M::B));
}

template <typename M>
void LinearPanel(const LinearArgs& args, const LinearTile& work, const PanelShare& share) {
  const PackedMatrix& weights = *args.weights;
  constexpr int32_t kWidth = M::V::kLanes * M::kMaxVectors;
  const int64_t k = weights.k();
  const int32_t stored_columns = StoredColumns<M>(weights, share.panel);
  const bool last = share.k_end == k;
  alignas(64) float buffer[M::kMaxRows * kWidth];
  TileArgs tile{.a_stride = k,
                .b = WeightsAt<M>(weights, share.panel, share.k_begin),
                .b_stride = int64_t{stored_columns} * M::kStep,
                .steps = (share.k_end - share.k_begin + M::kStep - 1) / M::kStep,
                .c_stride = kWidth,
                .accumulate = share.k_begin != 0};
  const int32_t rows = work.row_end - work.row_begin;
  const int32_t passes = (rows + M::kMaxRows - 1) / M::kMaxRows;
  const int64_t step_bytes = tile.b_stride * static_cast<int64_t>(sizeof(typename M::B));
  for (int32_t pass = 0; pass < passes; ++pass) {
    const int32_t begin = rows * pass / passes;
    const int32_t end = rows * (pass + 1) / passes;
    const PanelRows product{share.panel, work.row_begin + begin, work.row_begin + end};
    if (passes > 1) {  // the next share's come from memory meanwhile, a part with each pass
      tile.ahead_lines = (kStepsAhead * step_bytes / kCacheLine + passes - 1) / passes;
      tile.ahead = share.ahead + pass * (tile.steps / kStepsAhead) * tile.ahead_lines * kCacheLine;
    }
    if (last) PrefetchOutput(args, product);
    tile.a = static_cast<const typename M::A*>(args.input) + product.begin * k + share.k_begin;
    tile.c = share.sums == nullptr ? buffer : share.sums + int64_t{begin} * kWidth;
    FindTile<M>(end - begin, stored_columns / M::V::kLanes)(tile);
    if (last) Finish<typename M::V, typename M::A>(args, product, tile.c);
  }
}

// Groups of panels, of each the shares of k, of each the panels.
template <typename M>
void LinearOnTile(const LinearArgs& args, const LinearTile& tile) {
  constexpr int64_t kWidth = M::V::kLanes * M::kMaxVectors;
  const PackedMatrix& weights = *args.weights;
  const int64_t k = weights.k();
  const int64_t share = tile.share_of_k;
  const bool shared = tile.sums != nullptr;
  const int32_t group = shared ? tile.panels_per_share : tile.panel_end - tile.panel_begin;
  for (int32_t begin = tile.panel_begin; begin < tile.panel_end; begin += group) {
    const int32_t end = tile.panel_end - begin < group ? tile.panel_end : begin + group;
    for (int64_t k_begin = 0; k_begin < k; k_begin += share) {
      const int64_t k_end = k - k_begin < share ? k : k_begin + share;
      for (int32_t panel = begin; panel < end; ++panel) {
        const int64_t sums_before = (panel - begin) * (tile.row_end - tile.row_begin) * kWidth;
        float* sums = shared ? tile.sums + sums_before : nullptr;
        const std::byte* ahead = WeightsAt<M>(weights, end, 0);
        if (panel + 1 < end) {
          ahead = WeightsAt<M>(weights, panel + 1, k_begin);
        } else if (k_end < k) {
          ahead = WeightsAt<M>(weights, begin, k_end);
        }
        LinearPanel<M>(args, tile, {panel, k_begin, k_end, sums, ahead});
      }
    }
  }
}

}  // namespace
}  // namespace baton
