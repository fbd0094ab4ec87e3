// Rotary position embedding in Hugging Face's "rotate half" form.
#pragma once

#include <cstdint>
#include <span>

#include "engine/kernels/kernel_table.h"

namespace baton {

// cosines and sines, each [positions.size(), inverse_frequencies.size()], of
// position * inverse frequency, in f32 as transformers computes them.
void RopeAngles(const OpContext& context, std::span<const int32_t> positions,
                std::span<const float> inverse_frequencies, float* cosines, float* sines);

// In place, for i < head_dim / 2 and h = head_dim / 2:
//   x[i], x[i + h] = x[i] * cos[i] - x[i + h] * sin[i], x[i + h] * cos[i] + x[i] * sin[i]
struct RopeArgs {
  float* heads = nullptr;          // [rows, num_heads, head_dim], rows `row_stride` floats apart
  const float* cosines = nullptr;  // [rows, head_dim / 2]
  const float* sines = nullptr;    // [rows, head_dim / 2]
  int64_t row_stride = 0;
  int32_t rows = 0;
  int32_t num_heads = 0;
  int32_t head_dim = 0;
};

void Rope(const OpContext& context, const RopeArgs& args);

}  // namespace baton
