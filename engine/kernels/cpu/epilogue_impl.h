// What becomes of the sums of Linear: see Epilogue. Internal linkage on purpose: see vec_avx512.h.
#pragma once

#include <cstdint>

#include "engine/kernels/cpu/gemm_tile.h"
#include "engine/kernels/cpu/vec_math.h"
#include "engine/kernels/linear.h"

namespace baton {
namespace {

// Some rows of the product over one panel.
struct PanelRows {
  int32_t panel = 0;
  int32_t begin = 0;
  int32_t end = 0;
};

// Asks for the memory that Finish will read, which it would otherwise wait for. Inlined, since
// g++ 12 drops calls of functions that only prefetch.
[[gnu::always_inline]] inline void PrefetchOutput(const LinearArgs& args, const PanelRows& rows) {
  if (args.epilogue != Epilogue::kAddTo) return;
  const int32_t n = args.weights->n();
  const int32_t width = args.weights->format().panel_columns;
  const auto* output = static_cast<const float*>(args.output) + rows.panel * width;
  constexpr auto kFloatsOfLine = static_cast<int32_t>(kCacheLine / sizeof(float));
  for (int32_t row = rows.begin; row < rows.end; ++row) {
    for (int32_t i = 0; i < width; i += kFloatsOfLine) {
      __builtin_prefetch(output + static_cast<int64_t>(row) * n + i, 1);
    }
  }
}

// x / (1 + e^-x)
template <typename V>
typename V::F Silu(typename V::F x) {
  return V::Div(x, V::Add(V::Set1(1.0f), Exp<V>(V::Sub(V::Zero(), x))));
}

// Of one row of a panel. `Vector(i)` are the sums from column i on, the bias added.
template <typename V>
class RowSums {
 public:
  // `bias`: null, or as long as the panel, padding included.
  RowSums(const float* sums, const float* bias) : sums_(sums), bias_(bias) {}
  typename V::F Vector(int32_t i) const {
    const typename V::F sum = V::Load(sums_ + i);
    return bias_ == nullptr ? sum : V::Add(sum, V::Load(bias_ + i));
  }

 private:
  const float* const sums_;
  const float* const bias_;
};

template <typename V>
void StoreRow(const RowSums<V>& row, int32_t columns, float* output) {
  int32_t i = 0;
  for (; i + V::kLanes <= columns; i += V::kLanes) V::Store(output + i, row.Vector(i));
  if (i == columns) return;
  float last[V::kLanes];
  V::Store(last, row.Vector(i));
  for (int32_t lane = 0; i < columns; ++i, ++lane) output[i] = last[lane];
}

template <typename V>
void AddRow(const RowSums<V>& row, int32_t columns, float* output) {
  int32_t i = 0;
  for (; i + V::kLanes <= columns; i += V::kLanes) {
    V::Store(output + i, V::Add(V::Load(output + i), row.Vector(i)));
  }
  if (i == columns) return;
  float last[V::kLanes];
  V::Store(last, row.Vector(i));
  for (int32_t lane = 0; i < columns; ++i, ++lane) output[i] += last[lane];
}

// Gates are in the even columns, ups in the odd ones.
template <typename V, typename Activation>
void SiluMulRow(const RowSums<V>& row, int32_t columns, Activation* output) {
  const auto activated = [](typename V::F low, typename V::F high) {
    return V::Mul(Silu<V>(V::Even(low, high)), V::Odd(low, high));
  };
  int32_t i = 0;
  for (; i + 2 * V::kLanes <= columns; i += 2 * V::kLanes) {
    StoreAs<V>(output + i / 2, activated(row.Vector(i), row.Vector(i + V::kLanes)));
  }
  if (i == columns) return;
  const bool both = columns - i > V::kLanes;  // else the panel has no second vector
  Activation last[V::kLanes];
  StoreAs<V>(last, activated(row.Vector(i), both ? row.Vector(i + V::kLanes) : V::Zero()));
  for (int32_t lane = 0; i < columns; i += 2, ++lane) output[i / 2] = last[lane];
}

// `sums`: [rows, panel_columns], finished.
template <typename V, typename Activation>
void Finish(const LinearArgs& args, const PanelRows& rows, const float* sums) {
  const PackedMatrix& weights = *args.weights;
  const int32_t width = weights.format().panel_columns;
  const int32_t first = rows.panel * width;
  const int32_t columns = weights.n() - first < width ? weights.n() - first : width;
  const float* bias = weights.bias() == nullptr ? nullptr : weights.bias() + first;
  for (int32_t r = rows.begin; r < rows.end; ++r, sums += width) {
    const RowSums<V> row(sums, bias);
    const int64_t at = static_cast<int64_t>(r) * weights.n() + first;
    switch (args.epilogue) {
      case Epilogue::kStore:
        StoreRow<V>(row, columns, static_cast<float*>(args.output) + at);
        break;
      case Epilogue::kAddTo:
        AddRow<V>(row, columns, static_cast<float*>(args.output) + at);
        break;
      case Epilogue::kSiluMul:
        SiluMulRow<V>(row, columns, static_cast<Activation*>(args.output) + at / 2);
        break;
    }
  }
}

}  // namespace
}  // namespace baton
