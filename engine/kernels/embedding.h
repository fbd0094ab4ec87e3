// The rows of the embedding table that belong to a step's tokens.
#pragma once

#include <cstdint>
#include <span>

#include "common/ids.h"
#include "engine/kernels/kernel_table.h"
#include "engine/kernels/linear.h"

namespace baton {

struct EmbeddingArgs {
  // [vocab_size, width], one output a token: with tied weights the very matrix of the logits, so
  // that it is in memory once.
  const PackedMatrix* table = nullptr;
  std::span<const TokenId> tokens;  // each in [0, vocab_size)
  float* output = nullptr;          // [tokens.size(), width]
};

void Embedding(const OpContext& context, const EmbeddingArgs& args);

}  // namespace baton
