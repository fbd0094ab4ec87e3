// The rows of the embedding table that belong to a step's tokens.
#pragma once

#include <cstdint>

#include "common/ids.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/context.h"

namespace baton {

struct CudaEmbeddingArgs {
  const Bf16* table = nullptr;      // [vocab_size, width] bf16, device
  const TokenId* tokens = nullptr;  // [rows], each in [0, vocab_size), device
  float* output = nullptr;          // [rows, width] f32, device
  int32_t rows = 0;
  int32_t width = 0;
};

void Embedding(const CudaContext& context, const CudaEmbeddingArgs& args);

}  // namespace baton
