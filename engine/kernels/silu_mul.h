// The gated activation of the feed-forward layer.
#pragma once

#include <cstdint>

#include "engine/kernels/kernel_table.h"

namespace baton {

struct SiluMulArgs {
  const float* gate_up = nullptr;  // [rows, 2, width]: gate, then up
  void* output = nullptr;          // [rows, width] of the activation dtype: silu(gate) * up
  int32_t rows = 0;
  int32_t width = 0;
};

void SiluMul(const OpContext& context, const SiluMulArgs& args);

}  // namespace baton
