// The rows of the embedding table that belong to a step's tokens.
#pragma once

#include <cstdint>

#include "common/ids.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/context.h"

namespace baton {

struct CudaEmbeddingArgs {
  const Bf16* table = nullptr;      // [num_tokens, width] bf16, device
  TokenId first_token = 0;          // whose row is the table's first
  int32_t num_tokens = 0;           // in the table; the row of any other token is zeros
  const TokenId* tokens = nullptr;  // [rows], device
  float* output = nullptr;          // [rows, width] f32, device
  int32_t rows = 0;
  int32_t width = 0;
};

void Embedding(const CudaContext& context, const CudaEmbeddingArgs& args);

}  // namespace baton
