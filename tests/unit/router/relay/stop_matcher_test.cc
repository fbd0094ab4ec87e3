#include "router/relay/stop_matcher.h"

#include <gtest/gtest.h>

#include <iostream>
#include <random>

namespace baton::router {
namespace {

struct Outcome {
  std::string text;
  std::string stop;  // empty: none
  size_t consumed = 0;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};
std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  return out << '"' << outcome.text << "\" stop \"" << outcome.stop << "\" after "
             << outcome.consumed;
}

// The whole text at once: the match that ends first, of those the longest.
Outcome Naive(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::string longest;
    for (const std::string& stop : stops) {
      const bool ends_here = !stop.empty() && stop.size() <= end &&
                             text.compare(end - stop.size(), stop.size(), stop) == 0;
      if (ends_here && stop.size() > longest.size()) longest = stop;
    }
    if (!longest.empty()) return {text.substr(0, end - longest.size()), longest, end};
  }
  return {text, "", text.size()};
}

TEST(StopMatcher, MatchesTheWholeTextReferenceHoweverTheTextIsDivided) {
  const uint64_t seed = 991;
  std::cout << "seed " << seed << "\n";
  std::mt19937_64 random(seed);
  const auto draw = [&](size_t longest, int letters) {
    std::string text;
    for (size_t i = random() % (longest + 1); i > 0; --i) {
      text += static_cast<char>('a' + random() % static_cast<uint64_t>(letters));
    }
    return text;
  };
  int matched = 0;
  for (int round = 0; round < 20'000; ++round) {
    const int letters = 1 + static_cast<int>(random() % 3);
    std::vector<std::string> stops;
    for (size_t i = random() % 4; i > 0; --i) stops.push_back(draw(5, letters));
    const std::string text = draw(30, letters);
    const Outcome expected = Naive(text, stops);
    StopMatcher matcher(stops);
    Outcome got;
    size_t pushed = 0;
    while (pushed < text.size() && got.stop.empty()) {
      const std::string piece = text.substr(pushed, 1 + random() % 4);
      pushed += piece.size();
      StopMatcher::Result result = matcher.Push(piece);
      got.text += result.text;
      // What has gone out is never taken back.
      ASSERT_EQ(expected.text.compare(0, got.text.size(), got.text), 0) << "round " << round;
      if (result.match.has_value()) got.stop = result.match->stop;
    }
    if (got.stop.empty()) got.text += matcher.Flush();
    EXPECT_GE(pushed, expected.consumed) << "round " << round;
    got.consumed = expected.consumed;
    ASSERT_EQ(got, expected) << "round " << round;
    matched += got.stop.empty() ? 0 : 1;
  }
  EXPECT_GT(matched, 4'000);
  EXPECT_LT(matched, 18'000);
}

TEST(StopMatcher, HoldsBackNoMoreThanTheLongestPossibleBeginning) {
  StopMatcher matcher({"abcd", "cx"});
  EXPECT_EQ(matcher.Push("zab").text, "z");
  EXPECT_EQ(matcher.Push("c").text, "");
  EXPECT_EQ(matcher.Push("c").text, "abc") << "only the last c can still begin a stop string";
  const StopMatcher::Result result = matcher.Push("xyz");
  EXPECT_EQ(result.text, "");
  EXPECT_EQ(result.match->stop, "cx");
}

TEST(StopMatcher, PassedTextNeverMatchesNorBeginsAMatch) {
  StopMatcher matcher({"ab"});
  EXPECT_EQ(matcher.Pass("aba"), "aba");
  EXPECT_FALSE(matcher.Push("b").match.has_value());
  EXPECT_TRUE(matcher.Push("ab").match.has_value());
}

TEST(StopMatcher, WithoutStopStringsTextPassesAtOnce) {
  StopMatcher matcher({"", ""});
  EXPECT_EQ(matcher.Push("abc").text, "abc");
  EXPECT_EQ(matcher.Flush(), "");
}

}  // namespace
}  // namespace baton::router
