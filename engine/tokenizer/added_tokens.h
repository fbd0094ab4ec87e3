// Finds added tokens ("<|im_start|>") in a text before anything else looks at it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/ids.h"
#include "engine/tokenizer/tokenizer_spec.h"

namespace baton {

// One set of added tokens that are searched together. Immutable after construction, thread-safe.
class AddedTokenMatcher {
 public:
  // `contents[i]` is the text by which `tokens[i]` is found: its content, or that normalized.
  AddedTokenMatcher(std::vector<AddedTokenSpec> tokens, const std::vector<std::string>& contents);

  // A stretch of the text: one token, or text between tokens (`token` is -1).
  struct Section {
    TokenId token = -1;
    std::string_view text;
  };

  // Cuts `text` into sections, as `tokenizers` does: leftmost match first, of several at one place
  // the longest; then the flags single_word, lstrip and rstrip. With `parse_special` false, special
  // tokens found count as plain text. Time: text length times the longest token at worst.
  // REQUIRES: well-formed UTF-8.
  std::vector<Section> Cut(std::string_view text, bool parse_special) const;

  bool empty() const { return tokens_.empty(); }

 private:
  struct Found {
    const AddedTokenSpec* token = nullptr;
    size_t length_bytes = 0;
  };
  Found LongestAt(std::string_view text, size_t pos) const;
  static uint64_t EdgeKey(uint32_t node, char byte) {
    return (uint64_t{node} << 8) | static_cast<unsigned char>(byte);
  }

  std::vector<AddedTokenSpec> tokens_;
  // A trie over bytes; node 0 is the root.
  absl::flat_hash_map<uint64_t, uint32_t> edges_;  // EdgeKey(node, byte) -> node
  std::vector<int32_t> token_at_;                  // [nodes] index into tokens_, -1: none ends here
  std::array<bool, 256> starts_{};                 // bytes with an edge from the root
};

}  // namespace baton
