// What must hold of a tokenizer and any text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/check.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton {

inline std::string Incrementally(const Tokenizer& tokenizer, const std::vector<TokenId>& tokens,
                                 bool skip_special) {
  IncrementalDetokenizer detokenizer(tokenizer, {}, skip_special);
  std::string text;
  for (const TokenId token : tokens) {
    const std::string piece = detokenizer.Push(token);
    BATON_CHECK(IsValidUtf8(piece)) << "half a character was let go: " << piece;
    text += piece;
  }
  return text + detokenizer.Finish();
}

inline void CheckTokenizer(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool parse_special : {false, true}) {
    const std::vector<TokenId> tokens =
        tokenizer.Encode(text, /*add_special_tokens=*/parse_special, parse_special);
    for (const TokenId token : tokens) {
      BATON_CHECK(token >= 0 && token < tokenizer.vocab_size()) << token;
    }
    for (const bool skip_special : {false, true}) {
      const std::string decoded = tokenizer.Decode(tokens, skip_special);
      BATON_CHECK(IsValidUtf8(decoded)) << decoded;
      const std::string streamed = Incrementally(tokenizer, tokens, skip_special);
      BATON_CHECK(streamed == decoded) << streamed << " / " << decoded;
    }
  }
}

}  // namespace baton
