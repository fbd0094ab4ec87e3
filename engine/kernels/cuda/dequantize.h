// Quantized weights as ordinary numbers: for products of many rows, and as a table of embeddings.
#pragma once

#include <cstdint>

#include "common/ids.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/linear.h"

namespace baton {

struct DequantizeArgs {
  const CudaMatrix* weights = nullptr;  // quantized, or fp8
  int32_t begin = 0;                    // of its outputs, a multiple of kQuantTileOutputs
  int32_t end = 0;
  Bf16* output = nullptr;  // [end - begin, k] bf16, device, aligned to 16 bytes
};

// Each weight is scale * level, rounded once: by at most half a level of int8 and 1/32 of one of
// int4; of fp8 by 2^-9 of itself.
void Dequantize(const CudaContext& context, const DequantizeArgs& args);

struct QuantizedEmbeddingArgs {
  const CudaMatrix* table = nullptr;  // [tokens, width], quantized
  TokenId first_token = 0;            // whose row is the table's first; that of others is zeros
  const TokenId* tokens = nullptr;    // [rows], device
  float* output = nullptr;            // [rows, width] f32, device, aligned to 16 bytes
  int32_t rows = 0;
};

// The rows of a quantized table that belong to a step's tokens; scale * level, which f32 holds
// exactly: what the CPU has.
void QuantizedEmbedding(const CudaContext& context, const QuantizedEmbeddingArgs& args);

}  // namespace baton
