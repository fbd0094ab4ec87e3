#include "engine/tokenizer/dummy_tokenizer.h"

#include <gtest/gtest.h>

namespace baton {
namespace {

TEST(DummyTokenizer, BytesRoundTripAndLargeTokensArePrintable) {
  const auto tokenizer = MakeDummyTokenizer(1000);
  const std::string text = "Grüße, 世界";
  const std::vector<TokenId> tokens = tokenizer->Encode(text, true, false);
  EXPECT_EQ(tokens.size(), text.size());
  EXPECT_EQ(tokenizer->Decode(tokens, true), text);
  const std::vector<TokenId> large{300, 999};
  EXPECT_EQ(tokenizer->Decode(large, true), " 300 999");
}

TEST(DummyTokenizer, IdsStayInsideASmallVocabulary) {
  const auto tokenizer = MakeDummyTokenizer(100);
  for (const TokenId token : tokenizer->Encode("\xff\xfe zebra", true, false)) {
    EXPECT_LT(token, 100);
  }
  EXPECT_EQ(tokenizer->TokenBytes(100), "");
}

}  // namespace
}  // namespace baton
