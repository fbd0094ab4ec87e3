// A tokenizer whose tokens are bytes: 0 to 255, then <s> and </s>.
#pragma once

#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"

namespace baton {

class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr TokenId kBos = 256;
  static constexpr TokenId kEos = 257;

  std::vector<TokenId> Encode(std::string_view text, bool add_special_tokens,
                              bool parse_special) const override {
    std::vector<TokenId> tokens;
    if (add_special_tokens) tokens.push_back(kBos);
    while (!text.empty()) {
      if (parse_special && text.substr(0, 3) == "<s>") {
        tokens.push_back(kBos);
        text.remove_prefix(3);
      } else {
        tokens.push_back(static_cast<unsigned char>(text.front()));
        text.remove_prefix(1);
      }
    }
    return tokens;
  }
  std::string Decode(std::span<const TokenId> tokens, bool skip_special) const override {
    std::string text;
    for (const TokenId token : tokens) {
      if (token < 256 || !skip_special) text += token < 256 ? TokenBytes(token) : TokenPiece(token);
    }
    return text;
  }
  std::string TokenBytes(TokenId token) const override {
    return token >= 0 && token < 256 ? std::string(1, static_cast<char>(token)) : TokenPiece(token);
  }
  std::string TokenPiece(TokenId token) const override {
    if (token == kBos) return "<s>";
    if (token == kEos) return "</s>";
    return token >= 0 && token < 256 ? std::string(1, static_cast<char>(token)) : "";
  }
  bool IsSpecial(TokenId token) const override { return token >= 256; }
  int32_t vocab_size() const override { return 258; }
  TokenId bos_token() const override { return kBos; }
  TokenId eos_token() const override { return kEos; }
};

}  // namespace baton
