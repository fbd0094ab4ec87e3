// input * weights^T + bias with bf16 weights, where a row's bits depend on its own input and the
// matrix alone, whatever the number of rows: what cuBLASLt does not promise.
//
// The order of a number's sum is fixed by k alone (see warp_sums.h): eight partial sums, of every
// eighth chunk of 128 inputs each, in rising order by mma.sync of 16 inputs, added from the first
// to the last in f32, then the bias in f32, then the epilogue. Two kernels, one of them in two tile
// sizes, keep to it. For few rows a block's warps share the partial sums, and reading the weights
// is what it costs. For many rows a block computes a tile of outputs and rows, each of its warps
// all eight partial sums of a part of it, one after another; multiplying is what it costs. Their
// mma have the same operands in the same places, so that which kernel takes a row, beside which
// others and in which column, cannot show. The idea of one order for all batch sizes is Thinking
// Machines Lab's ("Defeating Nondeterminism in LLM Inference", 2025).
//
// Floor of few rows: bandwidth, 2 bytes a weight, read once; inputs come from caches, 1 byte a
// weight up to 16 rows, 2 up to 32. Floor of many rows: tensor cores by mma.sync, about 60% of an
// H100's peak and 100% of an A100's; and caches, as a block reads a byte for 64 FLOP (large tiles).
#pragma once

#include <cstdint>

#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/linear.h"

namespace baton {

// Raised with each change of the bits that any op gives in this mode, attention and norms included:
// workers that compute in different orders take no KV from one another.
inline constexpr int32_t kInvariantOrder = 1;

// What a block of the kernel of few rows takes at most, so that weights are read once. More rows
// read 4 bytes a weight from caches in small tiles (weights and inputs), where it would read 8.
inline constexpr int32_t kMaxFewRows = 32;

enum class InvariantKernel {
  kFewRows,     // also one way among the library's where products need not be batch-invariant
  kSmallTiles,  // 64 outputs by 64 rows in a block: where larger ones would leave a device idle
  kLargeTiles,  // 128 by 128
};
// What is taken for a product. Its bits are the same with any.
InvariantKernel InvariantKernelFor(const CudaDeviceInfo& device, int32_t rows, int32_t n);

// REQUIRES: bf16 weights.
void InvariantLinear(const CudaContext& context, const CudaLinearArgs& args);
void InvariantLinearBy(const CudaContext& context, InvariantKernel kernel,
                       const CudaLinearArgs& args);

}  // namespace baton
