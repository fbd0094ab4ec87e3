// Stable hashes: the same on every machine and in every version, so they may cross the wire.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "common/ids.h"

namespace baton {

// XXH3 64-bit.
uint64_t HashBytes(const void* data, size_t length_bytes, uint64_t seed = 0);
inline uint64_t HashString(std::string_view text, uint64_t seed = 0) {
  return HashBytes(text.data(), text.size(), seed);
}

// Mixes `value` into `state`; order matters. SplitMix64's finaliser over a multiply-add.
constexpr uint64_t HashCombine(uint64_t state, uint64_t value) {
  uint64_t x = state * 0x9e3779b97f4a7c15u + value + 0x632be59bd9b4e019u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Names a full block of tokens by everything up to its end, so that routers and workers call it the
// same. The parent of a chain's first block is its salt.
uint64_t PrefixBlockHash(uint64_t parent, std::span<const TokenId> tokens);

}  // namespace baton
