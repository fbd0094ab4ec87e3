// Root-mean-square normalisation of rows: see engine/kernels/rms_norm.h. The arrays are on the
// device; the output is bf16. Not for heads: see rope_write.h.
#pragma once

#include "engine/kernels/cuda/context.h"
#include "engine/kernels/rms_norm.h"

namespace baton {

// A row's result does not depend on the number of rows.
void RmsNorm(const CudaContext& context, const RmsNormArgs& args);

}  // namespace baton
