// The ops that work on one row at a time. Internal linkage on purpose: see vec_avx512.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "engine/kernels/cpu/int8_kv_impl.h"
#include "engine/kernels/cpu/vec_math.h"
#include "engine/kernels/kv_write.h"
#include "engine/kernels/rms_norm.h"
#include "engine/kernels/rope.h"

namespace baton {
namespace {

// 1 / sqrt(mean(x^2) + epsilon).
template <typename V>
float InverseRms(const float* x, int32_t width, float epsilon) {
  typename V::F squares = V::Zero();
  int32_t i = 0;
  for (; i + V::kLanes <= width; i += V::kLanes) {
    const typename V::F value = V::Load(x + i);
    squares = V::Fma(value, value, squares);
  }
  float sum = V::ReduceAdd(squares);
  for (; i < width; ++i) sum += x[i] * x[i];
  return 1.0f / __builtin_sqrtf(sum / static_cast<float>(width) + epsilon);
}

template <typename V, typename Out>
void ScaleRow(const float* x, const float* weight, float factor, int32_t width, Out* output) {
  const typename V::F scale = V::Set1(factor);
  int32_t i = 0;
  for (; i + V::kLanes <= width; i += V::kLanes) {
    StoreAs<V>(output + i, V::Mul(V::Mul(V::Load(x + i), scale), V::Load(weight + i)));
  }
  for (; i < width; ++i) StoreScalar(output + i, x[i] * factor * weight[i]);
}

template <typename V, typename Activation>
void RmsNormRows(const RmsNormArgs& args, int32_t row_begin, int32_t row_end) {
  for (int32_t row = row_begin; row < row_end; ++row) {
    const int64_t offset = static_cast<int64_t>(row) * args.width;
    const float* input = args.input + offset;
    const float factor = InverseRms<V>(input, args.width, args.epsilon);
    ScaleRow<V>(input, args.weight, factor, args.width,
                static_cast<Activation*>(args.output) + offset);
  }
}

template <typename V>
void HeadNormRows(const HeadNormArgs& args, int32_t row_begin, int32_t row_end) {
  for (int32_t row = row_begin; row < row_end; ++row) {
    for (int32_t head = 0; head < args.num_heads; ++head) {
      float* x = args.heads + row * args.row_stride + static_cast<int64_t>(head) * args.head_dim;
      ScaleRow<V>(x, args.weight, InverseRms<V>(x, args.head_dim, args.epsilon), args.head_dim, x);
    }
  }
}

template <typename V>
void RopeRows(const RopeArgs& args, int32_t row_begin, int32_t row_end) {
  const int32_t half = args.head_dim / 2;
  for (int32_t row = row_begin; row < row_end; ++row) {
    const float* cosines = args.cosines + static_cast<int64_t>(row) * half;
    const float* sines = args.sines + static_cast<int64_t>(row) * half;
    for (int32_t head = 0; head < args.num_heads; ++head) {
      float* low = args.heads + row * args.row_stride + static_cast<int64_t>(head) * args.head_dim;
      float* high = low + half;
      int32_t i = 0;
      for (; i + V::kLanes <= half; i += V::kLanes) {
        const typename V::F x = V::Load(low + i);
        const typename V::F y = V::Load(high + i);
        const typename V::F c = V::Load(cosines + i);
        const typename V::F s = V::Load(sines + i);
        V::Store(low + i, V::Sub(V::Mul(x, c), V::Mul(y, s)));
        V::Store(high + i, V::Add(V::Mul(y, c), V::Mul(x, s)));
      }
      for (; i < half; ++i) {
        const float x = low[i];
        const float y = high[i];
        low[i] = x * cosines[i] - y * sines[i];
        high[i] = y * cosines[i] + x * sines[i];
      }
    }
  }
}

template <typename V, typename Cache>
void WriteKvRow(const float* source, int32_t head_dim, std::byte* row) {
  if constexpr (std::is_same_v<Cache, Int8Row>) {
    WriteInt8Row<V>(source, head_dim, row);
  } else {
    auto* target = reinterpret_cast<Cache*>(row);
    int32_t i = 0;
    for (; i + V::kLanes <= head_dim; i += V::kLanes) StoreAs<V>(target + i, V::Load(source + i));
    for (; i < head_dim; ++i) StoreScalar(target + i, source[i]);
  }
}

template <typename V, typename Cache>
void KvWriteRows(const KvWriteArgs& args, int32_t row_begin, int32_t row_end) {
  const KvLayerView& layer = args.layer;
  const int64_t head_bytes = layer.block_size * layer.row_bytes;
  for (int32_t row = row_begin; row < row_end; ++row) {
    const KvSlot slot = args.slots[row];
    std::byte* keys =
        layer.base + slot.block.value() * layer.block_bytes + slot.offset * layer.row_bytes;
    std::byte* values = keys + layer.num_kv_heads * head_bytes;
    for (int32_t head = 0; head < layer.num_kv_heads; ++head) {
      const int64_t source = row * args.row_stride + static_cast<int64_t>(head) * layer.head_dim;
      WriteKvRow<V, Cache>(args.keys + source, layer.head_dim, keys + head * head_bytes);
      WriteKvRow<V, Cache>(args.values + source, layer.head_dim, values + head * head_bytes);
    }
  }
}

}  // namespace
}  // namespace baton
