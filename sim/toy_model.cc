#include "sim/toy_model.h"

#include <algorithm>

#include "common/hash.h"

namespace baton::sim {

TokenId ToyNextToken(const GenerationSpec& spec, std::span<const TokenId> tokens, size_t draw) {
  uint64_t hash = spec.sampling.temperature == 0.0f ? 0 : spec.sampling.seed;
  for (const TokenId token : tokens) hash = HashCombine(hash, static_cast<uint64_t>(token));
  hash = HashCombine(hash, draw);
  const bool may_end = !spec.stopping.ignore_eos;
  if (may_end && hash % 97 == 0) return kToyEos;
  return static_cast<TokenId>(1 + hash % (kToyVocab - 1));
}

uint64_t ToyPrefix(uint64_t before, TokenId token) {
  return HashCombine(before, static_cast<uint64_t>(token));
}

uint64_t ToyKv(uint64_t prefix, int32_t layer) {
  return HashCombine(prefix, static_cast<uint64_t>(layer));
}

std::vector<std::vector<TokenId>> ToyAnswer(const GenerationSpec& spec, int32_t max_model_len) {
  std::vector<std::vector<TokenId>> samples(static_cast<size_t>(spec.num_samples));
  for (size_t sample = 0; sample < samples.size(); ++sample) {
    std::vector<TokenId> tokens = spec.tokens;
    std::vector<TokenId>& output = samples[sample];
    while (static_cast<int32_t>(output.size()) < spec.stopping.max_tokens &&
           static_cast<int32_t>(tokens.size()) < max_model_len) {
      output.push_back(ToyNextToken(spec, tokens, output.empty() ? sample : 0));
      tokens.push_back(output.back());
      if (output.back() == kToyEos) break;
    }
  }
  return samples;
}

ToyMemory::ToyMemory(int32_t layers, int32_t blocks)
    : blocks_(blocks), slots_(static_cast<size_t>(layers * blocks * kToyBlockSize), 0) {}

void ToyMemory::CopyFrom(const ToyMemory& other, int32_t layer, BlockId from, BlockId to) {
  const auto source = other.slots_.begin() + static_cast<ptrdiff_t>(other.Index(layer, from));
  std::copy_n(source, kToyBlockSize, slots_.begin() + static_cast<ptrdiff_t>(Index(layer, to)));
}

uint64_t ToyMemory::Hash(int32_t layer, BlockId block) const {
  return HashBytes(slots_.data() + Index(layer, block), kToyBlockSize * sizeof(uint64_t));
}

}  // namespace baton::sim
