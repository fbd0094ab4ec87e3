// Activations as e4m3 with a scale for each row, before a product with weights of e4m3.
#pragma once

#include <cstdint>

#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/context.h"

namespace baton {

struct QuantizeRowsArgs {
  const Bf16* input = nullptr;  // [rows, width] bf16, device, aligned to 16 bytes
  uint8_t* output = nullptr;    // [rows, width] e4m3, device, aligned to 16 bytes
  float* scales = nullptr;      // [rows], device
  int32_t rows = 0;
  int32_t width = 0;  // a multiple of 8
};

// A row's result does not depend on the others. Its largest magnitude becomes 448; see fp8.h for
// numbers that are not finite.
void QuantizeRows(const CudaContext& context, const QuantizeRowsArgs& args);

}  // namespace baton
