// Root-mean-square normalisation of rows.
#pragma once

#include <cstdint>

#include "engine/kernels/kernel_table.h"

namespace baton {

struct RmsNormArgs {
  const float* input = nullptr;   // [rows, width]
  const float* weight = nullptr;  // [width]
  // [rows, width] of the activation dtype: weight * input / sqrt(mean(input^2) + epsilon)
  void* output = nullptr;
  int32_t rows = 0;
  int32_t width = 0;
  float epsilon = 0.0f;
};

void RmsNorm(const OpContext& context, const RmsNormArgs& args);

// The same over each head of each row, in place (Qwen3's q and k norm).
struct HeadNormArgs {
  float* heads = nullptr;         // [rows, num_heads, head_dim], rows `row_stride` floats apart
  const float* weight = nullptr;  // [head_dim]
  int64_t row_stride = 0;
  int32_t rows = 0;
  int32_t num_heads = 0;
  int32_t head_dim = 0;
  float epsilon = 0.0f;
};

void HeadNorm(const OpContext& context, const HeadNormArgs& args);

}  // namespace baton
