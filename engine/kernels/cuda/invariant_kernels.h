// The kernels of invariant_linear.h, and what of the order of sums is the same in both.
// Included by .cu files only.
#pragma once

#include <cstdint>

#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/warp_sums.h"

namespace baton {

inline constexpr int kGroupInputs = 32;
inline constexpr int kChunkGroups = 4;
inline constexpr int kChunkInputs = kChunkGroups * kGroupInputs;

constexpr int NumChunks(int32_t k) { return (k + kChunkInputs - 1) / kChunkInputs; }

// Adds the products of a group of inputs to 16 outputs' sums for eight rows. With g = lane / 4 and
// t = lane % 4 a lane has the inputs 8t .. 8t + 7 of the outputs g (`upper`) and g + 8 (`lower`)
// and of row g. To the tensor cores its first two words are the inputs 2t, 2t + 1, 2t + 8 and
// 2t + 9: which of a group's inputs is called what matters to no sum, as long as it is always the
// same.
__device__ __forceinline__ void AddGroup(const uint4& upper, const uint4& lower, const uint4& input,
                                         float (&sums)[4]) {
  const uint32_t first_weights[4] = {upper.x, lower.x, upper.y, lower.y};
  const uint32_t second_weights[4] = {upper.z, lower.z, upper.w, lower.w};
  const uint32_t first_input[2] = {input.x, input.y};
  const uint32_t second_input[2] = {input.z, input.w};
  MmaBf16(sums, first_weights, first_input);
  MmaBf16(sums, second_weights, second_input);
}

// weights: [n, k].
void MultiplyFewRows(const CudaContext& context, const ProductArgs& args, const Bf16* weights);
void MultiplySmallTiles(const CudaContext& context, const ProductArgs& args, const Bf16* weights);
void MultiplyLargeTiles(const CudaContext& context, const ProductArgs& args, const Bf16* weights);

}  // namespace baton
