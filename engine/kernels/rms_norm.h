// Root-mean-square normalisation of rows, with the residual addition that comes before it.
#pragma once

#include <cstdint>

#include "engine/kernels/kernel_table.h"

namespace baton {

struct RmsNormArgs {
  float* residual = nullptr;      // [rows, width]; `addend` is added in place
  const float* addend = nullptr;  // [rows, width] or null
  const float* weight = nullptr;  // [width]
  // [rows, width] of the activation dtype: weight * residual / sqrt(mean(residual^2) + epsilon)
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
