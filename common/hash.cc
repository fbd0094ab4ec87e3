#include "common/hash.h"

#include <xxhash.h>

namespace baton {

uint64_t HashBytes(const void* data, size_t length_bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(data, length_bytes, seed);
}

uint64_t PrefixBlockHash(uint64_t parent, std::span<const TokenId> tokens) {
  return HashBytes(tokens.data(), tokens.size_bytes(), HashCombine(parent, 1));
}

}  // namespace baton
