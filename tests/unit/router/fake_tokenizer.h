// A tokenizer with no file: tokens 0..255 are single bytes, 256.. are the given pieces, and the
// last one is the special end token.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "engine/tokenizer/tokenizer.h"

namespace baton::router {

class FakeTokenizer final : public Tokenizer {
 public:
  explicit FakeTokenizer(std::vector<std::string> pieces = {}) : pieces_(std::move(pieces)) {}

  std::vector<TokenId> Encode(std::string_view text, bool, bool) const override {
    std::vector<TokenId> tokens;
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
  }
  std::string Decode(std::span<const TokenId> tokens, bool skip_special) const override {
    std::string text;
    for (const TokenId token : tokens) {
      if (!skip_special || !IsSpecial(token)) text += TokenBytes(token);
    }
    return text;
  }
  std::string TokenBytes(TokenId token) const override {
    if (token < 0 || token >= vocab_size()) return "";
    if (token < 256) return std::string(1, static_cast<char>(token));
    if (token == eos_token()) return "<end>";
    return pieces_[static_cast<size_t>(token - 256)];
  }
  std::string TokenPiece(TokenId token) const override { return TokenBytes(token); }
  bool IsSpecial(TokenId token) const override { return token == eos_token(); }
  int32_t vocab_size() const override { return 257 + static_cast<int32_t>(pieces_.size()); }
  TokenId bos_token() const override { return -1; }
  TokenId eos_token() const override { return 256 + static_cast<int32_t>(pieces_.size()); }

 private:
  const std::vector<std::string> pieces_;
};

}  // namespace baton::router
