#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/unicode/utf8.h"
#include "tests/unit/engine/tokenizer/test_tokenizers.h"

namespace baton {
namespace {

using testing::ElementsAre;

std::vector<TokenId> RandomTokens(const Tokenizer& tokenizer, std::mt19937& random) {
  std::vector<TokenId> tokens;
  const auto size = static_cast<unsigned>(tokenizer.vocab_size());
  const size_t length = random() % 40;
  for (size_t i = 0; i < length; ++i) {
    // Half of them among the low ids, where bytes and special tokens are; some unknown.
    const unsigned limit = random() % 2 == 0 ? std::min(size, 300u) : size + 2;
    tokens.push_back(static_cast<TokenId>(random() % limit));
  }
  return tokens;
}

class DetokenizerTest : public testing::TestWithParam<const char*> {};

TEST_P(DetokenizerTest, StreamedTextIsTheDecodedTextInValidPieces) {
  const std::unique_ptr<Tokenizer> tokenizer = LoadGoldenTokenizer(GetParam());
  for (unsigned seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const std::vector<TokenId> tokens = RandomTokens(*tokenizer, random);
    for (const bool skip_special : {false, true}) {
      IncrementalDetokenizer stream(*tokenizer, {}, skip_special);
      std::string text;
      for (const TokenId token : tokens) {
        const std::string piece = stream.Push(token);
        ASSERT_TRUE(IsValidUtf8(piece));
        text += piece;
      }
      const std::string rest = stream.Finish();
      ASSERT_TRUE(IsValidUtf8(rest));
      EXPECT_EQ(text + rest, tokenizer->Decode(tokens, skip_special));
    }
  }
}

TEST_P(DetokenizerTest, PromptAndOutputTogetherAreTheDecodedWhole) {
  const std::unique_ptr<Tokenizer> tokenizer = LoadGoldenTokenizer(GetParam());
  const std::string text = " The river 北京 👩🏿‍🚀 ü ends";
  const std::vector<TokenId> tokens = tokenizer->Encode(text, true, true);
  const std::string whole = tokenizer->Decode(tokens, true);
  for (size_t cut = 0; cut <= tokens.size(); ++cut) {
    const std::span<const TokenId> all(tokens);
    // What the prompt shows without half a character at its end.
    IncrementalDetokenizer prompt_stream(*tokenizer, {}, true);
    std::string shown;
    for (const TokenId token : all.first(cut)) shown += prompt_stream.Push(token);
    IncrementalDetokenizer stream(*tokenizer, all.first(cut), true);
    for (const TokenId token : all.subspan(cut)) shown += stream.Push(token);
    if (cut < tokens.size()) shown += stream.Finish();
    EXPECT_EQ(shown, whole) << "cut at " << cut;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, DetokenizerTest, testing::ValuesIn(kTokenizerKinds),
                         [](const auto& kind) { return std::string(kind.param); });

// A vocabulary of single bytes and "ab".
class ByteTokenizer final : public Tokenizer {
 public:
  explicit ByteTokenizer(DecodeTraits traits = {}) : traits_(std::move(traits)) {}
  std::vector<TokenId> Encode(std::string_view, bool, bool) const override { return {}; }
  std::string Decode(std::span<const TokenId>, bool) const override { return {}; }
  std::string TokenBytes(TokenId token) const override {
    return token < 256 ? std::string(1, static_cast<char>(token)) : "ab";
  }
  std::string TokenPiece(TokenId token) const override { return TokenBytes(token); }
  bool IsSpecial(TokenId token) const override { return token == 0; }
  DecodeTraits decode_traits() const override { return traits_; }
  int32_t vocab_size() const override { return 257; }
  TokenId bos_token() const override { return -1; }
  TokenId eos_token() const override { return -1; }

 private:
  DecodeTraits traits_;
};

std::vector<std::string> Stream(const Tokenizer& tokenizer, std::vector<TokenId> prompt,
                                std::vector<TokenId> output) {
  IncrementalDetokenizer stream(tokenizer, prompt, true);
  std::vector<std::string> pieces;
  for (const TokenId token : output) pieces.push_back(stream.Push(token));
  pieces.push_back(stream.Finish());
  return pieces;
}

TEST(IncrementalDetokenizerTest, HoldsHalfACharacterUntilItIsWhole) {
  EXPECT_THAT(Stream(ByteTokenizer(), {}, {'x', 0xF0, 0x9F, 0x98, 0x80, 'y'}),
              ElementsAre("x", "", "", "", "😀", "y", ""));
}

TEST(IncrementalDetokenizerTest, ReplacesHalfACharacterOnceItCannotBecomeWhole) {
  EXPECT_THAT(Stream(ByteTokenizer(), {}, {0xF0, 0x9F, 'a'}), ElementsAre("", "", "\uFFFDa", ""));
  EXPECT_THAT(Stream(ByteTokenizer(), {}, {0xE2, 0x82}), ElementsAre("", "", "\uFFFD"));
  EXPECT_THAT(Stream(ByteTokenizer({.replace_each_byte = true}), {}, {0xE2, 0x82}),
              ElementsAre("", "", "\uFFFD\uFFFD"));
}

TEST(IncrementalDetokenizerTest, SpecialTokensDoNotPartACharacter) {
  EXPECT_THAT(Stream(ByteTokenizer(), {}, {0xC3, 0, 0xA9}), ElementsAre("", "", "é", ""));
}

TEST(IncrementalDetokenizerTest, OutputThatCompletesThePromptsLastCharacterShowsIt) {
  EXPECT_THAT(Stream(ByteTokenizer(), {'a', 0xC3}, {0xA9}), ElementsAre("é", ""));
}

TEST(IncrementalDetokenizerTest, ThePromptsOwnBrokenBytesAreNotOutput) {
  EXPECT_THAT(Stream(ByteTokenizer(), {'a', 0xC3}, {'b'}), ElementsAre("b", ""));
  EXPECT_THAT(Stream(ByteTokenizer(), {'a', 0xC3}, {}), ElementsAre(""));
}

TEST(IncrementalDetokenizerTest, ALeadingSpaceIsStrippedAtTheTextsStartOnly) {
  const ByteTokenizer tokenizer({.strip_leading_spaces = 1});
  EXPECT_THAT(Stream(tokenizer, {}, {' ', ' ', 'a', ' '}), ElementsAre("", " ", "a", " ", ""));
  EXPECT_THAT(Stream(tokenizer, {0}, {' ', 'a'}), ElementsAre("", "a", ""));
  EXPECT_THAT(Stream(tokenizer, {'q'}, {' ', 'a'}), ElementsAre(" ", "a", ""));
}

TEST(IncrementalDetokenizerTest, MovingItKeepsWhatIsPending) {
  const ByteTokenizer tokenizer;
  IncrementalDetokenizer first(tokenizer, {}, true);
  EXPECT_EQ(first.Push(0xC3), "");
  IncrementalDetokenizer second(std::move(first));
  EXPECT_EQ(second.Push(0xA9), "é");
}

}  // namespace
}  // namespace baton
