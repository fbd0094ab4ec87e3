// input * weights^T + bias for few rows, with int8 or int4 weights: they are read once, and that is
// what a product costs. Right for many rows, too.
//
// Factors: the activations in bf16, and levels, which bf16 holds exactly; nothing is rounded but
// sums. Those of a group of 32 inputs are f32 sums of tensor cores; the groups, times their scales,
// are added in f32. The CPU rounds activations to int8 besides, so its last bits are others.
//
// Batch invariance: a row's bits depend on its own input and the matrix alone. Eight warps take
// every eighth chunk of 128 inputs each, in rising order, and are added in the order of warps,
// whatever the number of rows.
#pragma once

#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/linear.h"

namespace baton {

// Above it a product costs more than reading the weights: not for this kernel, unless it has to be
// batch-invariant.
inline constexpr int32_t kMaxQuantizedRows = 64;

// Any number of rows; those of more than 32 read the weights again for each 32, from caches. The
// bias is added in f32. REQUIRES: quantized weights.
void QuantizedLinear(const CudaContext& context, const CudaLinearArgs& args);

}  // namespace baton
