// The gated activation of a feed-forward layer.
#pragma once

#include <cstdint>

#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/fp8.h"

namespace baton {

struct CudaSiluMulArgs {
  const Bf16* input = nullptr;  // [rows, width, 2 (gate, up)] bf16, device
  Bf16* output = nullptr;       // [rows, width] bf16, device: silu(gate) * up, in f32
  int32_t rows = 0;
  int32_t width = 0;
};

void SiluMul(const CudaContext& context, const CudaSiluMulArgs& args);

// The bits that SiluMul and then QuantizeRows give; args.output is not used. REQUIRES: `width` is a
// multiple of 8, all arrays are aligned to 16 bytes.
void SiluMulToE4m3(const CudaContext& context, const CudaSiluMulArgs& args, const E4m3Rows& rows);

}  // namespace baton
