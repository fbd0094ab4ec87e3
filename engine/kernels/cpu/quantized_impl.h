// Linear over quantized weights. Internal linkage on purpose: see vec_avx512.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/cpu/epilogue_impl.h"
#include "engine/kernels/cpu/gemm_tile.h"
#include "engine/kernels/cpu/vec_math.h"
#include "engine/kernels/linear.h"
#include "engine/kernels/quantize.h"

namespace baton {
namespace {

// A multiply type Q names the instructions:
//   V                vector of f32; I: vector of int32; kMaxRows x kMaxVectors: of one tile
//   LoadLevels(p)    [lanes, 4] unsigned bytes;  LowNibbles(x), HighNibbles(x): of such
//   SetInt(x), Quads(p): an int32, or four signed bytes, to all lanes
//   Dot<kInt4>(sum, levels, quants): adds four products to each lane, exactly; kInt4: levels < 16
//   ToFloat(sum)
//
// A panel: [groups] of { scales bf16 [columns], levels [steps, columns, 4] }. A step covers four
// inputs with int8; with int4 eight, the first four in the low halves of the bytes.

// Dot without VNNI: int8 levels in two halves of which each fits. Q has of the above all but Dot,
// and
//   DotSmall(levels, quants): the four products, of levels below 16;  Add, TimesSixteen: of int32
template <typename Q>
struct NibbleMultiply : Q {
  using I = typename Q::I;
  template <bool kInt4>
  static I Dot(I sum, I levels, I quants) {
    if constexpr (kInt4) return Q::Add(sum, Q::DotSmall(levels, quants));
    const I high = Q::TimesSixteen(Q::DotSmall(Q::HighNibbles(levels), quants));
    return Q::Add(sum, Q::Add(high, Q::DotSmall(Q::LowNibbles(levels), quants)));
  }
};

struct QuantizedTileArgs {
  const int8_t* quants = nullptr;  // [rows], rows `quants_stride` apart
  int64_t quants_stride = 0;
  const float* scales = nullptr;  // [rows], rows `groups_stride` apart
  const int32_t* sums = nullptr;
  int64_t groups_stride = 0;
  const std::byte* panel = nullptr;
  int64_t group_bytes = 0;
  int32_t groups = 0;
  float* product = nullptr;  // [rows, columns], rows product_stride apart
  int64_t product_stride = 0;
  // Each group asks for the next `ahead_lines` lines of memory from here.
  const std::byte* ahead = nullptr;
  int64_t ahead_lines = 0;
};

template <typename Q, bool kInt4, int kRows, int kVectors>
void QuantizedTile(const QuantizedTileArgs& args) {
  using V = typename Q::V;
  using I = typename Q::I;
  constexpr int kColumns = V::kLanes * kVectors;
  constexpr int kSteps = kInt4 ? kQuantGroup / 8 : kQuantGroup / 4;
  typename V::F total[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) total[r][v] = V::Zero();
  }
  const std::byte* panel = args.panel;
  const int8_t* quants = args.quants;
  const std::byte* ahead = args.ahead;
  for (int32_t group = 0; group < args.groups; ++group) {
    const auto* levels = reinterpret_cast<const uint8_t*>(panel) + kColumns * sizeof(Bf16);
    for (int64_t line = 0; line < args.ahead_lines; ++line, ahead += kCacheLine) {
      __builtin_prefetch(ahead, 0, 2);
    }
    I sum[kRows][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const int32_t quant_sum = args.sums[r * args.groups_stride + group];
      const I start = Q::SetInt(-(kInt4 ? kInt4Bias : kInt8Bias) * quant_sum);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = start;
    }
#pragma GCC unroll 8
    for (int step = 0; step < kSteps; ++step) {
      I column[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        column[v] = Q::LoadLevels(levels + (step * kColumns + v * V::kLanes) * 4);
      }
      if constexpr (kInt4) {
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const I row = Q::Quads(quants + r * args.quants_stride + step * 8);
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) {
            sum[r][v] = Q::template Dot<true>(sum[r][v], Q::LowNibbles(column[v]), row);
          }
        }
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) column[v] = Q::HighNibbles(column[v]);
      }
      const int offset = kInt4 ? step * 8 + 4 : step * 4;
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const I row = Q::Quads(quants + r * args.quants_stride + offset);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          sum[r][v] = Q::template Dot<kInt4>(sum[r][v], column[v], row);
        }
      }
    }
    const auto* scales = reinterpret_cast<const Bf16*>(panel);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const typename V::F column_scale = V::LoadBf16(scales + v * V::kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const typename V::F scale =
            V::Mul(column_scale, V::Set1(args.scales[r * args.groups_stride + group]));
        total[r][v] = V::Fma(Q::ToFloat(sum[r][v]), scale, total[r][v]);
      }
    }
    panel += args.group_bytes;
    quants += kQuantGroup;
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      V::Store(args.product + r * args.product_stride + v * V::kLanes, total[r][v]);
    }
  }
}

using QuantizedTileFn = void (*)(const QuantizedTileArgs&);

template <typename Q, bool kInt4>
QuantizedTileFn FindQuantizedTile(int rows, int vectors) {
  if constexpr (Q::kMaxVectors == 4) {
    static constexpr QuantizedTileFn kTiles[3][4] = {
        {QuantizedTile<Q, kInt4, 1, 1>, QuantizedTile<Q, kInt4, 1, 2>,
         QuantizedTile<Q, kInt4, 1, 3>, QuantizedTile<Q, kInt4, 1, 4>},
        {QuantizedTile<Q, kInt4, 2, 1>, QuantizedTile<Q, kInt4, 2, 2>,
         QuantizedTile<Q, kInt4, 2, 3>, QuantizedTile<Q, kInt4, 2, 4>},
        {QuantizedTile<Q, kInt4, 3, 1>, QuantizedTile<Q, kInt4, 3, 2>,
         QuantizedTile<Q, kInt4, 3, 3>, QuantizedTile<Q, kInt4, 3, 4>}};
    return kTiles[rows - 1][vectors - 1];
  } else {
    static constexpr QuantizedTileFn kTiles[2][2] = {
        {QuantizedTile<Q, kInt4, 1, 1>, QuantizedTile<Q, kInt4, 1, 2>},
        {QuantizedTile<Q, kInt4, 2, 1>, QuantizedTile<Q, kInt4, 2, 2>}};
    return kTiles[rows - 1][vectors - 1];
  }
}

// The work's rows over one panel.
template <typename Q, typename OutV, typename Activation, bool kInt4>
void QuantizedPanel(const LinearArgs& args, const QuantizedRows& input, const LinearTile& work,
                    int32_t panel) {
  using V = typename Q::V;
  const PackedMatrix& weights = *args.weights;
  constexpr int32_t kWidth = V::kLanes * Q::kMaxVectors;
  const int32_t left = weights.n() - panel * kWidth;
  const int32_t vectors = left < kWidth ? (left + V::kLanes - 1) / V::kLanes : Q::kMaxVectors;
  alignas(64) float product[Q::kMaxRows * kWidth];
  QuantizedTileArgs tile{.quants_stride = int64_t{input.groups} * kQuantGroup,
                         .groups_stride = input.groups,
                         .panel = weights.Panel(panel),
                         .group_bytes = weights.GroupBytes(panel),
                         .groups = input.groups,
                         .product = product,
                         .product_stride = kWidth};
  const int32_t rows = work.row_end - work.row_begin;
  const int32_t passes = (rows + Q::kMaxRows - 1) / Q::kMaxRows;
  const int64_t lines = tile.group_bytes / kCacheLine;
  for (int32_t pass = 0; pass < passes; ++pass) {
    const int32_t row = work.row_begin + rows * pass / passes;
    const int32_t row_end = work.row_begin + rows * (pass + 1) / passes;
    if (passes > 1) {  // the next panel comes from memory meanwhile, a part with each pass
      tile.ahead_lines = (lines + passes - 1) / passes;
      tile.ahead =
          tile.panel + tile.groups * (tile.group_bytes + pass * tile.ahead_lines * kCacheLine);
    }
    const int64_t at_group = static_cast<int64_t>(row) * input.groups;
    tile.quants = input.quants + at_group * kQuantGroup;
    tile.scales = input.scales + at_group;
    tile.sums = input.sums + at_group;
    const PanelRows output{panel, row, row_end};
    PrefetchOutput(args, output);
    FindQuantizedTile<Q, kInt4>(row_end - row, vectors)(tile);
    Finish<OutV, Activation>(args, output, product);
  }
}

// OutV, Activation: vectors and elements of what epilogues write.
template <typename Q, typename OutV, typename Activation>
void QuantizedLinearOnTile(const LinearArgs& args, const QuantizedRows& input,
                           const LinearTile& tile) {
  const bool int4 = args.weights->format().element == WeightElement::kInt4;
  for (int32_t panel = tile.panel_begin; panel < tile.panel_end; ++panel) {
    if (int4) {
      QuantizedPanel<Q, OutV, Activation, true>(args, input, tile, panel);
    } else {
      QuantizedPanel<Q, OutV, Activation, false>(args, input, tile, panel);
    }
  }
}

// One group of one row: `input` has 32 numbers. Returns the scale; NaN if one is not finite.
template <typename V, typename Activation>
float QuantizeGroup(const Activation* input, int8_t* quants, int32_t* sum) {
  constexpr int kVectors = kQuantGroup / V::kLanes;
  typename V::F values[kVectors];
  typename V::F most = V::Zero();
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    values[v] = LoadAs<V>(input + v * V::kLanes);
    most = V::Max(most, V::Max(values[v], V::Sub(V::Zero(), values[v])));
  }
  const float largest = V::ReduceMax(most);
  // Numbers so small that the inverse could overflow become zeros.
  const typename V::F inverse = V::Set1(largest > 1e-36f ? 127.0f / largest : 0.0f);
  typename V::F total = V::Zero();  // whole numbers: exact in any order
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const typename V::F quant = V::Round(V::Mul(values[v], inverse));
    V::StoreInt8(quants + v * V::kLanes, quant);
    total = V::Add(total, quant);
  }
  const float sum_of_quants = V::ReduceAdd(total);
  if (sum_of_quants != sum_of_quants) {  // a NaN or an infinity is among the numbers
    *sum = 0;
    return __builtin_nanf("");
  }
  *sum = static_cast<int32_t>(sum_of_quants);
  return largest / 127.0f;
}

template <typename V, typename Activation>
void QuantizeRows(const QuantizeArgs& args, int32_t row_begin, int32_t row_end) {
  const int32_t groups = NumQuantGroups(args.k);
  for (int32_t row = row_begin; row < row_end; ++row) {
    const auto* input =
        static_cast<const Activation*>(args.input) + static_cast<int64_t>(row) * args.k;
    for (int32_t group = 0; group < groups; ++group) {
      const int64_t at = static_cast<int64_t>(row) * groups + group;
      const Activation* source = input + group * kQuantGroup;
      const int32_t left = args.k - group * kQuantGroup;
      Activation padded[kQuantGroup] = {};
      if (left < kQuantGroup) {
        for (int32_t i = 0; i < left; ++i) padded[i] = source[i];
        source = padded;
      }
      args.scales[at] = QuantizeGroup<V>(source, args.quants + at * kQuantGroup, args.sums + at);
    }
  }
}

}  // namespace
}  // namespace baton
