// Rows of an int8 KV cache, see KvRowBytes. Internal linkage on purpose: see vec_avx512.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/kv_layout.h"
#include "engine/kernels/cpu/vec_math.h"

namespace baton {
namespace {

struct Int8Row {};  // names the element of such a cache, where others are Bf16 or float

// `values`: kKvScaleGroup of them. Returns their scale; a NaN or an infinity among them makes it
// NaN, so that what reads the row is NaN too. The same on every instruction set.
template <typename V>
Bf16 WriteInt8Group(const float* values, int8_t* levels) {
  typename V::F most = V::Zero();
  for (int32_t i = 0; i < kKvScaleGroup; i += V::kLanes) {
    const typename V::F value = V::Load(values + i);
    most = V::Max(most, V::Max(value, V::Sub(V::Zero(), value)));
  }
  const Bf16 scale = ToBf16(V::ReduceMax(most) / 127.0f);
  // Numbers so small that the inverse could overflow become zeros.
  const typename V::F inverse = V::Set1(ToFloat(scale) > 1e-37f ? 1.0f / ToFloat(scale) : 0.0f);
  typename V::F total = V::Zero();
  for (int32_t i = 0; i < kKvScaleGroup; i += V::kLanes) {
    const typename V::F level = V::Round(V::Mul(V::Load(values + i), inverse));
    total = V::Add(total, level);
    V::StoreInt8(levels + i, V::Max(V::Min(level, V::Set1(127.0f)), V::Set1(-127.0f)));
  }
  const float sum = V::ReduceAdd(total);
  return sum == sum ? scale : ToBf16(__builtin_nanf(""));
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
