// Root-mean-square normalisation of rows: see engine/kernels/rms_norm.h. The arrays are on the
// device; the output is bf16. Not for heads: see rope_write.h.
#pragma once

#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/fp8.h"
#include "engine/kernels/rms_norm.h"

namespace baton {

// A row's result does not depend on the number of rows.
void RmsNorm(const CudaContext& context, const RmsNormArgs& args);

// The bits that RmsNorm and then QuantizeRows give; args.output is not used. REQUIRES: `width` is a
// multiple of 8, all arrays are aligned to 16 bytes.
void RmsNormToE4m3(const CudaContext& context, const RmsNormArgs& args, const E4m3Rows& rows);

}  // namespace baton
