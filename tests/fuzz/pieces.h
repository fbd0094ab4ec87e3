// What the fuzzers share: inputs as text, and one way to cut them into the pieces of a stream.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "common/hash.h"

namespace baton {

inline std::string_view TextOf(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// `text` in pieces of 1 to 16 bytes, now and then longer; equal texts are cut alike.
inline std::vector<std::string_view> PiecesOf(std::string_view text) {
  std::vector<std::string_view> pieces;
  uint64_t state = HashString(text);
  while (!text.empty()) {
    state = HashCombine(state, text.size());
    const size_t length = 1 + (state % 8 == 0 ? state / 8 % 256 : state / 8 % 16);
    pieces.push_back(text.substr(0, length));
    text.remove_prefix(std::min(length, text.size()));
  }
  return pieces;
}

}  // namespace baton
