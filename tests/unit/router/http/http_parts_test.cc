// The parts of the HTTP front that need no socket: the reader and the call queue.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "router/http/byte_budget.h"
#include "router/http/call_queue.h"
#include "router/http/http_message.h"
#include "router/http/request_reader.h"

namespace baton {
namespace {

using Step = RequestReader::Step;

constexpr const char* kPost =
    "POST /v1/completions?x=1 HTTP/1.1\r\nContent-Length: 5\r\nX-Request-Id: r1\r\n"
    "x-slo-class: gold\r\nAuthorization: Bearer k\r\n\r\nhello";

TEST(RequestReader, ReportsTheHeadBeforeTheBody) {
  RequestReader reader({});
  std::string input = kPost;
  EXPECT_EQ(reader.Feed(input), Step::kHead);
  EXPECT_EQ(reader.head().method, "POST");
  EXPECT_EQ(reader.head().path, "/v1/completions");
  EXPECT_EQ(reader.head().request_id, "r1");
  EXPECT_EQ(reader.head().slo_class, "gold");
  EXPECT_EQ(reader.head().authorization, "Bearer k");
  EXPECT_EQ(reader.Feed(input), Step::kDone);
  EXPECT_EQ(reader.Take().body, "hello");
  EXPECT_EQ(input, "");
}

TEST(RequestReader, GivesTheSameRequestHoweverBytesAreCut) {
  std::mt19937 random(3);
  const std::string bytes = std::string(kPost) + kPost;
  for (int round = 0; round < 200; ++round) {
    RequestReader reader({});
    std::string input;
    size_t at = 0;
    int done = 0;
    while (true) {
      const Step step = reader.Feed(input);
      ASSERT_NE(step, Step::kError) << "seed 3, round " << round;
      if (step == Step::kDone) {
        EXPECT_EQ(reader.Take().body, "hello");
        reader.Reset();
        ++done;
      }
      if (step != Step::kNeedMore) continue;
      if (at == bytes.size()) break;
      const size_t length = std::min<size_t>(1 + random() % 40, bytes.size() - at);
      input.append(bytes, at, length);
      at += length;
    }
    EXPECT_EQ(done, 2);
  }
}

TEST(RequestReader, SetsNothingAsideForABodyThatIsOnlyAnnounced) {
  RequestReader reader({});
  std::string input = "POST /tokenize HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n{";
  EXPECT_EQ(reader.Feed(input), Step::kHead);
  EXPECT_EQ(reader.Feed(input), Step::kNeedMore);
  EXPECT_LT(reader.body_capacity(), 100u);
}

TEST(ByteBudget, GivesBackWhatItsSharesHeld) {
  ByteBudget budget(100);
  ByteBudget::Share first(budget);
  {
    ByteBudget::Share second(budget);
    EXPECT_TRUE(first.Resize(60));
    EXPECT_FALSE(second.Resize(41));
    EXPECT_TRUE(second.Resize(40));
    EXPECT_TRUE(first.Resize(10));
    EXPECT_EQ(budget.used(), 50u);
    const ByteBudget::Share moved = std::move(second);
    EXPECT_EQ(budget.used(), 50u);
  }
  EXPECT_EQ(budget.used(), 10u);
}

TEST(RequestReader, ReadsAnEmptyChunkedBodyByteByByte) {
  RequestReader reader({});
  std::string input = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  ASSERT_EQ(reader.Feed(input), Step::kHead);
  for (const char byte : std::string_view("0\r\n\r")) {
    input += byte;
    EXPECT_EQ(reader.Feed(input), Step::kNeedMore);
  }
  input += '\n';
  EXPECT_EQ(reader.Feed(input), Step::kDone);
  EXPECT_EQ(reader.Take().body, "");
}

TEST(RequestReader, MutatedBytesNeverHang) {
  constexpr uint32_t kSeed = 11;
  std::mt19937 random(kSeed);
  const std::string chunked =
      "POST /tokenize HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
  for (int round = 0; round < 5000; ++round) {
    RequestReader reader({.max_body_bytes = 64, .max_header_bytes = 512});
    std::string input = round % 2 == 0 ? chunked : kPost;
    for (uint32_t edits = random() % 4; edits > 0; --edits) {
      input[random() % input.size()] = static_cast<char>(random());
    }
    int steps = 0;
    Step step = Step::kHead;
    while (step == Step::kHead && ++steps < 10) step = reader.Feed(input);
    EXPECT_LT(steps, 10) << "seed " << kSeed << " round " << round;
    if (step == Step::kError) {
      EXPECT_GE(reader.error().http_status, 400);
    }
  }
}

TEST(CallQueue, WakesOnceForEachBatch) {
  int wakes = 0;
  CallQueue queue(10, [&] { ++wakes; });
  auto sink = MakeQueueSink(std::shared_ptr<CallQueue>(&queue, [](CallQueue*) {}), 3, nullptr);
  sink->OnDelta({});
  sink->OnDelta({});
  EXPECT_EQ(wakes, 1);
  const auto events = queue.Take();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].prompt, 3u);
  sink->OnFinish({});
  EXPECT_EQ(wakes, 2);
}

TEST(CallQueue, IsBoundedAndSaysSo) {
  int wakes = 0;
  CallQueue queue(2, [&] { ++wakes; });
  for (int i = 0; i < 5; ++i) queue.Push({0, SampleDelta{}});
  EXPECT_TRUE(queue.overflowed());
  EXPECT_EQ(queue.Take().size(), 2u);
}

TEST(CallQueue, ADetachedQueueKeepsNothingAndWakesNobody) {
  int wakes = 0;
  CallQueue queue(2, [&] { ++wakes; });
  queue.Detach();
  queue.Push({0, RequestSummary{}});
  EXPECT_EQ(wakes, 0);
  EXPECT_TRUE(queue.Take().empty());
}

TEST(HttpMessage, ChunksCarryTheirLengthInHex) {
  std::string out;
  AppendStreamBytes(std::string(26, 'x'), /*chunked=*/true, out);
  EXPECT_EQ(out, "1a\r\n" + std::string(26, 'x') + "\r\n");
  AppendStreamBytes("", true, out);
  EXPECT_EQ(out.size(), 32u) << "an empty chunk would end the body";
}

}  // namespace
}  // namespace baton
