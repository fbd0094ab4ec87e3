#include "bench/load/core/sse_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "bench/load/core/random.h"

namespace baton::load {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> ParseInPieces(std::string_view text, const std::vector<size_t>& sizes) {
  std::vector<std::string> events;
  SseParser parser([&](std::string_view data) {
    events.emplace_back(data);
    return true;
  });
  for (const size_t size : sizes) {
    // A buffer of its own, so that a kept view is seen by the sanitizer.
    const std::string piece(text.substr(0, size));
    text.remove_prefix(piece.size());
    EXPECT_TRUE(parser.Push(piece));
  }
  (void)parser.Finish();
  return events;
}

constexpr std::string_view kStream =
    "data: one\n\n"
    ": a comment\n"
    "data:two\r\n\r\n"
    "event: message\nid: 7\ndata: three\n\n"
    "\n\n"
    "data: four, line 1\ndata: line 2\ndata: line 3\n\n"
    "data\n\n"
    "data: [DONE]\n\n";

TEST(SseParser, HandsOutTheDataOfEachEvent) {
  EXPECT_THAT(ParseInPieces(kStream, {kStream.size()}),
              ElementsAre("one", "two", "three", "four, line 1\nline 2\nline 3", "[DONE]"));
}

TEST(SseParser, CutsMakeNoDifference) {
  const auto whole = ParseInPieces(kStream, {kStream.size()});
  for (size_t cut = 0; cut <= kStream.size(); ++cut) {
    ASSERT_EQ(ParseInPieces(kStream, {cut, kStream.size() - cut}), whole) << "cut at " << cut;
  }
  EXPECT_EQ(ParseInPieces(kStream, std::vector<size_t>(kStream.size(), 1)), whole);
  Rng rng(3, 1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<size_t> sizes;
    for (size_t total = 0; total < kStream.size(); total += sizes.back()) {
      sizes.push_back(static_cast<size_t>(rng.UniformInt(1, 30)));
    }
    ASSERT_EQ(ParseInPieces(kStream, sizes), whole) << "round " << round;
  }
}

TEST(SseParser, LastEventWithoutBlankLineIsHandedOutAtTheEnd) {
  EXPECT_THAT(ParseInPieces("data: a\n\ndata: b", {17}), ElementsAre("a", "b"));
  EXPECT_THAT(ParseInPieces("data: a\n\ndata: b\n", {17}), ElementsAre("a", "b"));
}

TEST(SseParser, StopsWhenTheHandlerSaysSo) {
  int events = 0;
  SseParser parser([&](std::string_view) { return ++events < 2; });
  EXPECT_FALSE(parser.Push("data: 1\n\ndata: 2\n\ndata: 3\n\n"));
  EXPECT_FALSE(parser.Push("data: 4\n\n"));
  EXPECT_FALSE(parser.Finish());
  EXPECT_EQ(events, 2);
  EXPECT_FALSE(parser.overflowed());
}

TEST(SseParser, AnEndlessLineIsNotKept) {
  SseParser parser([](std::string_view) { return true; });
  const std::string piece(1 << 20, 'x');
  int pushed = 0;
  while (parser.Push(piece) && pushed < 100) ++pushed;
  EXPECT_TRUE(parser.overflowed());
  EXPECT_LE(pushed, 5);
}

TEST(SseParser, EndlessLinesOfOneEventAreNotKept) {
  SseParser parser([](std::string_view) { return true; });
  const std::string line = "data: " + std::string(1000, 'x') + "\n";
  int pushed = 0;
  while (parser.Push(line) && pushed < 100'000) ++pushed;
  EXPECT_TRUE(parser.overflowed());
  EXPECT_LE(pushed, 5000);
}

}  // namespace
}  // namespace baton::load
