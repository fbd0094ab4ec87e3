// The two kernels behind PrefillAttention: see attention.h. It alone calls them.
#pragma once

#include "engine/kernels/cuda/attention.h"
#include "engine/kernels/cuda/context.h"

namespace baton {

// mma.sync: all head dims, all devices.
void MmaAttention(const CudaContext& context, const CudaAttentionArgs& args);

// wgmma. REQUIRES: HasWgmmaAttention.
void WgmmaAttention(const CudaContext& context, const CudaAttentionArgs& args);

}  // namespace baton
