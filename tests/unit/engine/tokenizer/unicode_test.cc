#include <gtest/gtest.h>

#include <string>

#include "engine/tokenizer/unicode/character.h"
#include "engine/tokenizer/unicode/nfc.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton {
namespace {

std::string Repair(std::string_view text) {
  std::string storage;
  return std::string(RepairUtf8(text, storage));
}

std::string Nfc(std::string_view text) {
  std::string storage;
  return std::string(NormalizeNfc(text, storage));
}

TEST(Utf8Test, RepairReplacesEachMaximalSubpartOnce) {
  EXPECT_EQ(Repair("plain é 😀"), "plain é 😀");
  EXPECT_EQ(Repair("\xFF"), "\uFFFD");
  EXPECT_EQ(Repair("a\xE2\x82z"), "a\uFFFDz");              // cut short: one
  EXPECT_EQ(Repair("\xE0\x80\xAF"), "\uFFFD\uFFFD\uFFFD");  // overlong: no prefix is good
  EXPECT_EQ(Repair("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");  // surrogate
  EXPECT_EQ(Repair("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(Repair("\xF0\x9F\x98\xF0\x9F\x98\x80"), "\uFFFD😀");
}

TEST(Utf8Test, EveryScalarValueSurvivesARoundTrip) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    AppendUtf8(c, text);
    const Utf8Char decoded = DecodeUtf8(text, 0);
    ASSERT_TRUE(decoded.valid && decoded.code_point == c && decoded.length_bytes == text.size())
        << static_cast<uint32_t>(c);
  }
}

TEST(Utf8Test, IncompleteSuffixIsTheBytesThatMayStillBecomeACharacter) {
  EXPECT_EQ(IncompleteUtf8Suffix(""), 0u);
  EXPECT_EQ(IncompleteUtf8Suffix("é"), 0u);
  EXPECT_EQ(IncompleteUtf8Suffix("a\xC3"), 1u);
  EXPECT_EQ(IncompleteUtf8Suffix("a\xE2\x82"), 2u);
  EXPECT_EQ(IncompleteUtf8Suffix("\xF0\x9F\x98"), 3u);
  EXPECT_EQ(IncompleteUtf8Suffix("\xF0\x9F\x98\x80"), 0u);
  EXPECT_EQ(IncompleteUtf8Suffix("\xE0\x80"), 0u);  // can never become one
  EXPECT_EQ(IncompleteUtf8Suffix("\x80\x80\x80"), 0u);
  EXPECT_EQ(IncompleteUtf8Suffix("\xFF"), 0u);
}

TEST(NfcTest, ComposesAndReorders) {
  EXPECT_EQ(Nfc("cafe\u0301"), "café");
  EXPECT_EQ(Nfc("\u212B"), "Å");
  EXPECT_EQ(Nfc("q\u0307\u0323"), "q\u0323\u0307");
  EXPECT_EQ(Nfc("\u1112\u1161\u11AB"), "한");
  EXPECT_EQ(Nfc("already é"), "already é");
}

TEST(NfcTest, LongRunsOfMarksComeOutAsShortOnesWould) {
  // 300 marks of two classes, out of order: all of the lower class go first.
  std::string text = "x";
  std::string expected = "x";
  for (int i = 0; i < 150; ++i) text += "\u0307\u0323";
  for (int i = 0; i < 150; ++i) expected += "\u0323";
  for (int i = 0; i < 150; ++i) expected += "\u0307";
  // x + dot below + dot above: "ẋ" takes the first mark of class 230.
  expected = expected.substr(1);
  expected.erase(150 * 2, 2);
  EXPECT_EQ(Nfc(text), "ẋ" + expected);
}

TEST(CharacterTest, WhiteSpaceIsTheUnicodeProperty) {
  for (const char32_t c : {0x09, 0x0D, 0x20, 0x85, 0xA0, 0x1680, 0x2003, 0x2028, 0x3000}) {
    EXPECT_TRUE(IsWhiteSpace(c)) << static_cast<uint32_t>(c);
  }
  for (const char32_t c : {0x1C, 0x180E, 0x200B, 0xFEFF, 0x61}) {
    EXPECT_FALSE(IsWhiteSpace(c)) << static_cast<uint32_t>(c);
  }
  EXPECT_TRUE(IsPythonSpace(0x1C));
}

TEST(CharacterTest, CaseMappingIsFull) {
  EXPECT_EQ(ToUpper("straße"), "STRASSE");
  EXPECT_EQ(ToLower("ΟΔΥΣΣΕΥΣ"), "οδυσσευς");
}

}  // namespace
}  // namespace baton
