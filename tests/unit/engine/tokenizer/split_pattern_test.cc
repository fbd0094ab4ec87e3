#include "engine/tokenizer/split_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace baton {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> Matches(std::string_view pattern, std::string_view text) {
  absl::StatusOr<std::unique_ptr<SplitPattern>> compiled = SplitPattern::Compile(pattern);
  EXPECT_TRUE(compiled.ok()) << compiled.status();
  std::vector<std::string> found;
  SplitPattern::Scanner scanner(**compiled, text);
  for (SplitPattern::Match m; scanner.Next(m);) {
    found.emplace_back(text.substr(m.begin, m.end - m.begin));
  }
  return found;
}

TEST(SplitPatternTest, FindsMatchesLeftToRight) {
  EXPECT_THAT(Matches(R"(\p{L}+|\p{N}{1,3})", "ab1234 é"), ElementsAre("ab", "123", "4", "é"));
}

TEST(SplitPatternTest, WhiteSpaceExcludesTheMongolianVowelSeparator) {
  // PCRE2's own \s takes U+180E, Oniguruma's does not.
  EXPECT_THAT(Matches(R"(\s+)", "a\u180Eb c"), ElementsAre(" "));
  EXPECT_THAT(Matches(R"([^\s]+)", "a\u180Eb c"), ElementsAre("a\u180Eb", "c"));
  EXPECT_THAT(Matches(R"(\S+)", "a\u180Eb\u3000c"), ElementsAre("a\u180Eb", "c"));
}

TEST(SplitPatternTest, WhatTheTwoDialectsReadDifferentlyIsRefused) {
  for (const char* pattern :
       {R"(\w+)", R"(\h)", "^a", "a$", "[a&&b]", "[a[b]]", R"((a)\1)", "(?<n>a)", "(?P<n>a)",
        "(?#c)a", R"(\bword)", "a{,3}b", "a{1,2}+", R"([\S])", "[]a]", R"(\x41)", R"(\Z)"}) {
    EXPECT_FALSE(SplitPattern::Compile(pattern).ok()) << pattern;
  }
}

TEST(SplitPatternTest, BadPatternsAreErrorsThatSayWhy) {
  EXPECT_THAT(std::string(SplitPattern::Compile("(a").status().message()),
              HasSubstr("does not compile"));
  EXPECT_THAT(std::string(SplitPattern::Compile("a*").status().message()),
              HasSubstr("can match the empty text"));
  EXPECT_FALSE(SplitPattern::Compile("[a").ok());
  EXPECT_FALSE(SplitPattern::Compile("a\\").ok());
  EXPECT_FALSE(SplitPattern::Compile("\xFF").ok());
  EXPECT_FALSE(SplitPattern::Compile(std::string(1000, '(') + "a" + std::string(1000, ')')).ok());
}

TEST(SplitPatternTest, ATextThatExhaustsThePatternEndsTheWalk) {
  // Backtracks exponentially; the limit on matching ends it.
  EXPECT_THAT(Matches("(?:a|a)+b", std::string(64, 'a')), ElementsAre());
}

}  // namespace
}  // namespace baton
