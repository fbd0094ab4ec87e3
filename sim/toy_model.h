// A model without weights: its tokens and its KV are hashes of the tokens before them. Whatever
// goes wrong with a byte of KV or with the order of tokens gives another answer, and the answer to
// expect is computed at once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/ids.h"
#include "common/request.h"

namespace baton::sim {

inline constexpr int32_t kToyVocab = 1000;
inline constexpr int32_t kToyBlockSize = 4;  // tokens
inline constexpr TokenId kToyEos = 0;

// The token that follows `tokens`. `draw`: which of the samples that part here.
TokenId ToyNextToken(const GenerationSpec& spec, std::span<const TokenId> tokens, size_t draw);

// What the KV cache holds for the last of `tokens` in a layer is ToyKv(ToyPrefix(…), layer). A
// prefix is extended token by token, from kToyNoTokens on.
inline constexpr uint64_t kToyNoTokens = 7;
uint64_t ToyPrefix(uint64_t before, TokenId token);
uint64_t ToyKv(uint64_t prefix, int32_t layer);

// What the model answers to `spec`, computed alone: [num_samples][tokens], EOS included.
std::vector<std::vector<TokenId>> ToyAnswer(const GenerationSpec& spec, int32_t max_model_len);

// The KV of one worker's pool: one number for each (layer, block, token of the block).
class ToyMemory {
 public:
  ToyMemory(int32_t layers, int32_t blocks);
  uint64_t& At(int32_t layer, BlockId block, int32_t slot) {
    return slots_[Index(layer, block) + static_cast<size_t>(slot)];
  }
  void Copy(int32_t layer, BlockId from, BlockId to) { CopyFrom(*this, layer, from, to); }
  void CopyFrom(const ToyMemory& other, int32_t layer, BlockId from, BlockId to);
  uint64_t Hash(int32_t layer, BlockId block) const;  // of what a block holds

 private:
  size_t Index(int32_t layer, BlockId block) const {
    return static_cast<size_t>((layer * blocks_ + block.value()) * kToyBlockSize);
  }
  int32_t blocks_;
  std::vector<uint64_t> slots_;
};

}  // namespace baton::sim
