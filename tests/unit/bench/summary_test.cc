#include "bench/load/core/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace baton::load {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

// Sent at `at_ms`; the first token `ttft_ms` later, then one token for each gap.
RequestRecord Answered(double at_ms, double ttft_ms, std::vector<float> gaps_ms) {
  RequestRecord record;
  record.outcome = Outcome::kOk;
  record.intended_ms = record.sent_ms = at_ms;
  record.first_ms = record.last_ms = at_ms + ttft_ms;
  for (const float gap_ms : gaps_ms) record.last_ms += gap_ms;
  record.end_ms = record.last_ms + 1;
  record.output_tokens = record.asked_tokens = static_cast<int32_t>(gaps_ms.size()) + 1;
  record.prompt_tokens = 100;
  record.gaps_ms = std::move(gaps_ms);
  record.exact_count = true;
  return record;
}

RequestRecord Failed(double at_ms, Outcome outcome, int32_t status = 0) {
  RequestRecord record;
  record.outcome = outcome;
  record.http_status = status;
  record.detail = "why";
  record.intended_ms = record.sent_ms = at_ms;
  record.end_ms = at_ms + 5;
  return record;
}

std::vector<SloClass> OneClass(double ttft_ms, double tpot_ms) {
  return {SloClass{.slo = {ttft_ms, tpot_ms}}};
}

TEST(Judge, BothObjectivesMustHold) {
  const Slo slo{100, 10};
  EXPECT_EQ(Judge(Answered(0, 100, {10, 10}), slo), Judgement::kGood);  // the bounds are included
  EXPECT_EQ(Judge(Answered(0, 101, {10}), slo), Judgement::kTtftMissed);
  EXPECT_EQ(Judge(Answered(0, 50, {5, 16}), slo), Judgement::kTpotMissed);
  EXPECT_EQ(Judge(Answered(0, 500, {11}), slo), Judgement::kBothMissed);
  EXPECT_EQ(Judge(Answered(0, 50, {1, 19}), slo), Judgement::kGood);  // the mean, not each gap
}

TEST(Judge, OneTokenIsJudgedOnTtftAlone) {
  EXPECT_EQ(Judge(Answered(0, 50, {}), {100, 10}), Judgement::kGood);
  EXPECT_EQ(Judge(Answered(0, 150, {}), {100, 10}), Judgement::kTtftMissed);
}

TEST(Judge, NothingButAGoodAnswerIsGood) {
  for (const Outcome outcome : kAllOutcomes) {
    RequestRecord record = Answered(0, 1, {1});
    record.outcome = outcome;
    EXPECT_EQ(Judge(record, {}) == Judgement::kGood, outcome == Outcome::kOk)
        << OutcomeName(outcome);
  }
}

TEST(Judge, TtftCountsFromTheIntendedTime) {
  RequestRecord record = Answered(1000, 80, {});
  record.sent_ms = 1070;  // the client was late: the request was served in 10 ms, and still missed
  EXPECT_EQ(Judge(record, {50, 10}), Judgement::kTtftMissed);
}

TEST(MissedStage, IsWhereTheBudgetWent) {
  RequestRecord record = Answered(0, 500, {100});
  EXPECT_EQ(MissedStage(record, Judgement::kTtftMissed), "");
  record.timings = ServerTimings{.queue_ms = 300,
                                 .reserve_ms = 20,
                                 .prefill_ms = 150,
                                 .transfer_exposed_ms = 40,
                                 .decode_queue_ms = 5,
                                 .decode_ms = 50,
                                 .ttft_ms = 480};
  EXPECT_EQ(MissedStage(record, Judgement::kTtftMissed), "queue");
  EXPECT_EQ(MissedStage(record, Judgement::kBothMissed), "queue");
  EXPECT_EQ(MissedStage(record, Judgement::kTpotMissed), "decode");
  record.timings->transfer_exposed_ms = 60;
  EXPECT_EQ(MissedStage(record, Judgement::kTpotMissed), "transfer");
  record.timings->ttft_ms = 100;  // the server saw 100 of the 500 ms
  EXPECT_EQ(MissedStage(record, Judgement::kTtftMissed), "network");
  EXPECT_EQ(MissedStage(record, Judgement::kGood), "");
}

TEST(Summarize, ArithmeticIsExact) {
  std::vector<RequestRecord> records = {
      Answered(0, 999, {999}),  // warm-up: nothing of it counts
      Answered(1000, 50, {10, 20}),
      Answered(2000, 150, {10, 10}),
      Answered(3000, 50, {50, 50}),
      Failed(4000, Outcome::kRejected, 429),
      Failed(5000, Outcome::kRejected, 503),
      Failed(6000, Outcome::kRejected, 429),
  };
  records[0].warmup = true;
  const Summary s = Summarize(records, OneClass(100, 20));
  EXPECT_EQ(s.requests, 6);
  EXPECT_EQ(s.warmup_requests, 1);
  EXPECT_EQ(s.succeeded, 3);
  EXPECT_THAT(s.failures,
              ElementsAre(Pair("rejected (HTTP 429)", 2), Pair("rejected (HTTP 503)", 1)));
  EXPECT_EQ(s.failure_examples.at("rejected (HTTP 503)"), "why");
  EXPECT_EQ(s.output_tokens, 9);
  EXPECT_EQ(s.prompt_tokens, 300);
  EXPECT_DOUBLE_EQ(s.duration_s, 5.005);  // 1000 to 6005 ms
  EXPECT_DOUBLE_EQ(s.offered_per_s, 1);   // 5 gaps in 5 s
  EXPECT_DOUBLE_EQ(s.requests_per_s, 3 / 5.005);
  EXPECT_DOUBLE_EQ(s.output_tokens_per_s, 9 / 5.005);
  EXPECT_DOUBLE_EQ(s.total_tokens_per_s, 309 / 5.005);
  EXPECT_DOUBLE_EQ(s.goodput_per_s, 1 / 5.005);
  EXPECT_EQ(s.all.good, 1);
  EXPECT_EQ(s.all.ttft_missed, 1);
  EXPECT_EQ(s.all.tpot_missed, 1);
  EXPECT_EQ(s.all.not_served, 3);
  EXPECT_DOUBLE_EQ(s.all.fraction(), 1.0 / 6);  // rejections are in the denominator
  EXPECT_DOUBLE_EQ(s.ttft_ms.mean, 250.0 / 3);
  EXPECT_DOUBLE_EQ(s.tpot_ms.p50, 15);
  EXPECT_EQ(s.itl_ms.count, 6);
  EXPECT_DOUBLE_EQ(s.itl_ms.max, 50);
  EXPECT_EQ(s.gap2_ms.count, 3);
  EXPECT_DOUBLE_EQ(s.gap2_ms.max, 50);
  EXPECT_DOUBLE_EQ(s.max_itl_ms.p50, 20);
  EXPECT_DOUBLE_EQ(s.e2e_ms.min, 81);
  EXPECT_EQ(s.peak_in_flight, 1);
}

TEST(Summarize, ClassesAreJudgedByTheirOwnObjectives) {
  const std::vector<SloClass> classes = {{.name = "fast", .slo = {50, 10}},
                                         {.name = "slow", .slo = {500, kNoBound}}};
  std::vector<RequestRecord> records = {Answered(0, 100, {90}), Answered(10, 100, {90})};
  records[1].slo_class = 1;
  const Summary s = Summarize(records, classes);
  EXPECT_EQ(s.by_class[0].both_missed, 1);
  EXPECT_EQ(s.by_class[1].good, 1);
  EXPECT_EQ(s.all.requests, 2);
  EXPECT_EQ(s.all.good, 1);
  EXPECT_EQ(s.peak_in_flight, 2);
}

TEST(Summarize, WithoutObjectivesThereIsNoGoodput) {
  const Summary s =
      Summarize(std::vector<RequestRecord>{Answered(0, 1, {1})}, OneClass(kNoBound, kNoBound));
  EXPECT_FALSE(s.has_slo);
  EXPECT_EQ(s.goodput_per_s, 0);
}

TEST(Summarize, ServersCountOfPromptTokensWins) {
  RequestRecord record = Answered(0, 1, {1});
  record.reported_prompt_tokens = 140;
  record.cached_tokens = 64;
  const Summary s = Summarize(std::vector<RequestRecord>{record}, OneClass(1, 1));
  EXPECT_EQ(s.prompt_tokens, 140);
  EXPECT_EQ(s.cached_tokens, 64);
}

TEST(Summarize, NothingMeasuredIsAllZero) {
  const Summary s = Summarize({}, OneClass(1, 1));
  EXPECT_EQ(s.requests, 0);
  EXPECT_EQ(s.duration_s, 0);
  EXPECT_EQ(s.all.fraction(), 0);
}

TEST(SummarizeRepeats, RatesAreOverTheSumOfDurations) {
  // 2 answers in 1 s, then 1 in 3 s: 0.75/s, not the mean of 2 and 1/3.
  const std::vector<RequestRecord> first = {Answered(0, 10, {}), Answered(989, 10, {})};
  const std::vector<RequestRecord> second = {Answered(0, 2999, {})};
  const auto classes = OneClass(100, 100);
  const Summary pooled = SummarizeRepeats({first, second}, classes);
  EXPECT_DOUBLE_EQ(pooled.duration_s, 4);
  EXPECT_DOUBLE_EQ(pooled.requests_per_s, 0.75);
  EXPECT_DOUBLE_EQ(pooled.goodput_per_s, 0.5);
  EXPECT_EQ(pooled.all.requests, 3);
  EXPECT_EQ(pooled.peak_in_flight, 1);
}

}  // namespace
}  // namespace baton::load
