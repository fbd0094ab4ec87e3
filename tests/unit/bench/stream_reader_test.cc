#include "bench/load/core/stream_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace baton::load {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Event(const std::string& json) { return "data: " + json + "\n\n"; }
std::string Text(const std::string& text) {
  return Event(R"({"choices":[{"index":0,"text":")" + text + R"(","finish_reason":null}]})");
}
std::string Counted(const std::string& text, int tokens) {
  return Event(R"({"choices":[{"index":0,"text":")" + text +
               R"("}],"usage":{"prompt_tokens":7,"completion_tokens":)" + std::to_string(tokens) +
               "}}");
}
std::string Usage(int tokens) {
  return Event(R"({"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":)" +
               std::to_string(tokens) + R"(,"prompt_tokens_details":{"cached_tokens":3}}})");
}
const std::string kDone = "data: [DONE]\n\n";

class StreamReaderTest : public ::testing::Test {
 protected:
  StreamReaderTest() : reader_(&record_) { record_.asked_tokens = 4; }

  void Push(double at_ms, const std::string& bytes) { reader_.OnBody(bytes, at_ms); }

  RequestRecord record_;
  StreamReader reader_;
};

TEST_F(StreamReaderTest, EachEventWithTextIsATokenWithoutUsage) {
  Push(10, Text("a"));
  Push(15, Text("b"));
  Push(25, Text("c"));
  Push(26, Text(""));  // the end's flush carries no token
  Push(30, kDone);
  EXPECT_EQ(record_.outcome, Outcome::kOk);
  EXPECT_EQ(record_.output_tokens, 3);
  EXPECT_FALSE(record_.exact_count);
  EXPECT_EQ(record_.first_ms, 10);
  EXPECT_EQ(record_.last_ms, 25);
  EXPECT_EQ(record_.end_ms, 30);
  EXPECT_THAT(record_.gaps_ms, ElementsAre(5, 10));
  EXPECT_DOUBLE_EQ(*record_.tpot_ms(), 7.5);
}

TEST_F(StreamReaderTest, ContinuousUsageCountsTokensThatComeTogether) {
  Push(10, Counted("a", 1));
  Push(20, Counted("bcd", 4));
  Push(30, Usage(4) + kDone);
  EXPECT_EQ(record_.outcome, Outcome::kOk);
  EXPECT_EQ(record_.output_tokens, 4);
  EXPECT_TRUE(record_.exact_count);
  EXPECT_THAT(record_.gaps_ms, ElementsAre(10, 0, 0));
  EXPECT_EQ(record_.reported_prompt_tokens, 7);
  EXPECT_EQ(record_.cached_tokens, 3);
}

TEST_F(StreamReaderTest, TokensWithoutTextCountWhereUsageTellsThem) {
  Push(10, Counted("", 1));  // half a character, or a special token
  Push(12, Counted("é", 2));
  Push(13, Counted("", 2));  // finish_reason only
  Push(14, kDone);
  EXPECT_EQ(record_.output_tokens, 2);
  EXPECT_EQ(record_.first_ms, 10);
  EXPECT_EQ(record_.last_ms, 12);
}

TEST_F(StreamReaderTest, TokenIdsCountToo) {
  Push(10, Event(R"({"choices":[{"text":"ab","token_ids":[5,6]}]})"));
  Push(12, Event(R"({"choices":[{"text":"","token_ids":[]}]})"));
  Push(14, Event(R"({"choices":[{"text":"c","token_ids":[7]}]})") + kDone);
  EXPECT_EQ(record_.output_tokens, 3);
  EXPECT_TRUE(record_.exact_count);
  EXPECT_THAT(record_.gaps_ms, ElementsAre(0, 4));
}

TEST_F(StreamReaderTest, FinalUsageCorrectsACountByText) {
  Push(10, Text("a"));
  Push(20, Text("bcd"));
  Push(30, Usage(4) + kDone);
  EXPECT_EQ(record_.output_tokens, 4);
  EXPECT_TRUE(record_.exact_count);
  EXPECT_NEAR(*record_.tpot_ms(), 10.0 / 3, 1e-9);
}

TEST_F(StreamReaderTest, RoleOnlyChunkIsNotTheFirstToken) {
  Push(5, Event(R"({"choices":[{"delta":{"role":"assistant","content":""}}]})"));
  Push(10, Event(R"({"choices":[{"delta":{"content":"Hi"}}]})"));
  Push(12, Event(R"({"choices":[{"delta":{"reasoning_content":"hm"}}]})") + kDone);
  EXPECT_EQ(record_.first_ms, 10);
  EXPECT_EQ(record_.output_tokens, 2);
}

TEST_F(StreamReaderTest, TimingsAreKept) {
  Push(10, Text("a"));
  Push(11, Event(R"({"choices":[],"timings":{"queue_ms":1.5,"prefill_ms":20,"kv_bytes":7,)"
                 R"("prefill_worker":"p","ttft_ms":22.25}})") +
               kDone);
  ASSERT_TRUE(record_.timings.has_value());
  EXPECT_EQ(record_.timings->queue_ms, 1.5);
  EXPECT_EQ(record_.timings->prefill_ms, 20);
  EXPECT_EQ(record_.timings->ttft_ms, 22.25);
  EXPECT_EQ(record_.outcome, Outcome::kOk);
}

TEST_F(StreamReaderTest, CutsAnywhereMakeNoDifference) {
  const std::string stream = Counted("a\\n\\n", 1) + Counted("b", 2) + Usage(2) + kDone;
  for (size_t cut = 0; cut <= stream.size(); ++cut) {
    RequestRecord record{.asked_tokens = 2};
    StreamReader reader(&record);
    reader.OnBody(stream.substr(0, cut), 10);
    reader.OnBody(stream.substr(cut), 20);
    ASSERT_EQ(record.outcome, Outcome::kOk) << "cut at " << cut;
    ASSERT_EQ(record.output_tokens, 2) << "cut at " << cut;
  }
}

TEST_F(StreamReaderTest, EndWithoutDoneIsNamed) {
  Push(10, Text("a") + Text("b"));
  reader_.OnEnd(20);
  EXPECT_EQ(record_.outcome, Outcome::kNoDone);
  EXPECT_THAT(record_.detail, HasSubstr("after 2 tokens"));
}

TEST_F(StreamReaderTest, BadJsonIsNamedAndEndsTheRecord) {
  Push(10, Text("a"));
  Push(11, Event("{\"choices\": [oops"));
  Push(12, Text("b") + kDone);
  EXPECT_EQ(record_.outcome, Outcome::kBadJson);
  EXPECT_EQ(record_.detail, "{\"choices\": [oops");
  EXPECT_EQ(record_.end_ms, 11);
  EXPECT_EQ(record_.output_tokens, 1);
}

TEST_F(StreamReaderTest, JsonThatIsNoCompletionIsBad) {
  for (const char* json : {"{}", "[]", "3", "\"x\"", R"({"choice":[]})", R"({"id":"x"})"}) {
    RequestRecord record;
    StreamReader reader(&record);
    reader.OnBody(Event(json), 1);
    EXPECT_EQ(record.outcome, Outcome::kBadJson) << json;
  }
}

TEST_F(StreamReaderTest, OddTypesNeitherCrashNorCount) {
  for (const char* json :
       {R"({"choices":null})", R"({"choices":3})", R"({"choices":[3,null,"x"]})",
        R"({"choices":[{"text":7,"token_ids":"x","delta":[]}]})", R"({"choices":[],"usage":null})",
        R"({"choices":[],"usage":{"completion_tokens":"many","prompt_tokens":-4}})",
        R"({"choices":[],"usage":{"completion_tokens":1e300,"prompt_tokens_details":7}})",
        R"({"choices":[],"timings":[1]})"}) {
    RequestRecord record;
    StreamReader reader(&record);
    reader.OnBody(Event(json), 1);
    EXPECT_FALSE(reader.settled()) << json;
    EXPECT_EQ(record.output_tokens, 0) << json;
  }
}

TEST_F(StreamReaderTest, ErrorEventIsTheServersOwnFailure) {
  Push(10, Text("a"));
  Push(11, Event(R"({"error":{"message":"decode worker lost","code":"decode_lost"}})") + kDone);
  EXPECT_EQ(record_.outcome, Outcome::kServerError);
  EXPECT_EQ(record_.detail, "decode worker lost");
}

TEST_F(StreamReaderTest, EmptyStreamIsNamed) {
  Push(10, kDone);
  EXPECT_EQ(record_.outcome, Outcome::kNoTokens);
}

TEST_F(StreamReaderTest, MoreTokensThanAskedIsALieAtOnce) {
  Push(10, Counted("a", 4));
  EXPECT_FALSE(reader_.settled());
  Push(11, Counted("b", 5));
  EXPECT_EQ(record_.outcome, Outcome::kTooManyTokens);
  EXPECT_EQ(record_.detail, "5 tokens, 4 asked for");
}

TEST_F(StreamReaderTest, AnEndlessAnswerIsCutOff) {
  for (int i = 0; i < 1000 && !reader_.settled(); ++i) Push(i, Text("x"));
  EXPECT_EQ(record_.outcome, Outcome::kTooManyTokens);
  EXPECT_LT(record_.gaps_ms.size(), 100u);
}

TEST_F(StreamReaderTest, AHugeCountAllocatesNothing) {
  Push(10, Counted("a", 2'000'000'000));
  EXPECT_EQ(record_.outcome, Outcome::kTooManyTokens);
  EXPECT_TRUE(record_.gaps_ms.empty());
}

TEST_F(StreamReaderTest, SettlesOnce) {
  Push(10, Text("a") + kDone);
  reader_.Settle(Outcome::kTimedOut, "late", 99);
  reader_.OnEnd(99);
  Push(99, Text("b"));
  EXPECT_EQ(record_.outcome, Outcome::kOk);
  EXPECT_EQ(record_.end_ms, 10);
  EXPECT_EQ(record_.output_tokens, 1);
}

}  // namespace
}  // namespace baton::load
