// Rows of an int8 KV cache, see KvRowBytes. Internal linkage on purpose: see vec_avx512.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/kv_layout.h"
#include "engine/kernels/cpu/vec_math.h"

namespace baton {
namespace {

struct Int8Row {};  // names the element of such a cache, where others are Bf16 or float

// One group of a row in registers.
template <typename V>
struct Int8Group {
  static constexpr int kVectors = kKvScaleGroup / V::kLanes;
  using F = typename V::F;
  F values[kVectors];
  F levels[kVectors];

  float Peak() const {  // what has the largest magnitude
    F least = values[0];
    F most = values[0];
    for (int v = 1; v < kVectors; ++v) {
      least = V::Min(least, values[v]);
      most = V::Max(most, values[v]);
    }
    const float highest = V::ReduceMax(most);
    const float depth = V::ReduceMax(V::Sub(V::Zero(), least));
    return highest > depth ? highest : -depth;
  }

  // To levels; returns the squared error in squares of the scale, NaN if a number is not finite.
  // Summed in the same order on every instruction set: by halves.
  float Round(float inverse) {
    F squares[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const F exact = V::Mul(values[v], V::Set1(inverse));
      levels[v] = V::Max(V::Min(V::Round(exact), V::Set1(127.0f)), V::Set1(-128.0f));
      const F off = V::Sub(exact, levels[v]);
      constexpr int kHalf = kVectors / 2;
      squares[v] = v < kHalf ? V::Mul(off, off) : V::Fma(off, off, squares[v - kHalf]);
    }
    F sum = squares[kVectors / 2];
    for (int v = kVectors / 2 + 1; v < kVectors; ++v) sum = V::Add(sum, squares[v]);
    return V::ReduceAdd(sum);
  }
};

inline constexpr int kKvScalesTried = 4;

// `values`: kKvScaleGroup of them. Returns their scale, which is the one with the least squared
// error of a few that bring the peak near -128; a NaN or an infinity among them makes it NaN, so
// that what reads the row is NaN too. The same on every instruction set.
template <typename V>
Bf16 WriteInt8Group(const float* values, int8_t* levels) {
  Int8Group<V> group;
  for (int v = 0; v < group.kVectors; ++v) group.values[v] = V::Load(values + v * V::kLanes);
  Bf16 scale = ToBf16(group.Peak() / -128.0f);
  const float first = ToFloat(scale);
  // Numbers so small that the inverse could overflow become zeros.
  const bool tiny = __builtin_fabsf(first) <= 1e-37f;
  float least_error = group.Round(tiny ? 0.0f : 1.0f / first);
  const bool finite = least_error == least_error;
  if (finite && !tiny) {
    Bf16 tried = scale;
    for (int i = 1; i < kKvScalesTried; ++i) {
      ++tried.bits;
      const float growth = ToFloat(tried) / first;
      const float error = group.Round(1.0f / ToFloat(tried)) * (growth * growth);
      if (!(error < least_error)) continue;
      least_error = error;
      scale = tried;
    }
    group.Round(1.0f / ToFloat(scale));
  }
  for (int v = 0; v < group.kVectors; ++v) {
    V::StoreInt8(levels + v * V::kLanes, group.levels[v]);
  }
  return finite ? scale : ToBf16(__builtin_nanf(""));
}

template <typename V>
void WriteInt8Row(const float* source, int32_t head_dim, std::byte* row) {
  auto* levels = reinterpret_cast<int8_t*>(row);
  auto* scales = reinterpret_cast<Bf16*>(row + head_dim);
  for (int32_t i = 0; i < head_dim; i += kKvScaleGroup, ++scales) {
    if (head_dim - i >= kKvScaleGroup) {
      *scales = WriteInt8Group<V>(source + i, levels + i);
      continue;
    }
    const auto left = static_cast<size_t>(head_dim - i);
    float values[kKvScaleGroup] = {};
    int8_t last[kKvScaleGroup];
    __builtin_memcpy(values, source + i, left * sizeof(float));
    *scales = WriteInt8Group<V>(values, last);
    __builtin_memcpy(levels + i, last, left);
  }
}

// The row's numbers, and zeros up to `padded`.
template <typename V, typename To>
void ReadInt8Row(const std::byte* row, int32_t head_dim, int32_t padded, To* to) {
  const auto* levels = reinterpret_cast<const int8_t*>(row);
  const auto* scales = reinterpret_cast<const Bf16*>(row + head_dim);
  int32_t i = 0;
  for (const Bf16* scale = scales; i + kKvScaleGroup <= head_dim; ++scale) {
    const typename V::F factor = V::Set1(ToFloat(*scale));
    for (const int32_t end = i + kKvScaleGroup; i < end; i += 2 * V::kLanes) {
      StorePairAs<V>(to + i, V::Mul(V::LoadInt8(levels + i), factor),
                     V::Mul(V::LoadInt8(levels + i + V::kLanes), factor));
    }
  }
  for (; i < head_dim; ++i) {
    StoreScalar(to + i, static_cast<float>(levels[i]) * ToFloat(scales[i / kKvScaleGroup]));
  }
  for (; i < padded; ++i) StoreScalar(to + i, 0.0f);
}

}  // namespace
}  // namespace baton
