#include "bench/load/core/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "bench/load/core/prompt.h"

namespace baton::load {
namespace {

using ::testing::HasSubstr;

std::vector<TraceRow> Trace() {
  std::vector<TraceRow> rows;
  for (int i = 0; i < 5; ++i) {
    TraceRow row{.at = absl::Seconds(2 * i), .lengths = {1000 + i, 10 + i}};
    row.block_ids = {0, i < 3 ? 1 : 9};
    rows.push_back(row);
  }
  return rows;
}

WorkloadSpec Replay() {
  WorkloadSpec spec;
  spec.arrivals.kind = ArrivalKind::kTrace;
  spec.lengths.kind = LengthKind::kTrace;
  return spec;
}

LoadPlan Plan(const WorkloadSpec& spec, const std::vector<TraceRow>& trace = {},
              uint64_t seed = 1) {
  auto plan = BuildPlan(spec, trace, seed);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

std::string Why(const WorkloadSpec& spec, const std::vector<TraceRow>& trace = {}) {
  return std::string(BuildPlan(spec, trace, 1).status().message());
}

TEST(Workload, WarmupComesOnTopOfTheMeasuredRequests) {
  WorkloadSpec spec;
  spec.limit.max_requests = 20;
  spec.warmup_requests = 5;
  const LoadPlan plan = Plan(spec);
  ASSERT_EQ(plan.requests.size(), 25u);
  for (size_t i = 0; i < 25; ++i) EXPECT_EQ(plan.requests[i].warmup, i < 5) << i;
}

TEST(Workload, SamePlanForTheSameSeed) {
  WorkloadSpec spec;
  spec.limit.max_requests = 50;
  spec.lengths = *ParseLengths("lognormal:300,1/30,1");
  spec.classes = {{.name = "a", .share = 0.3}, {.name = "b", .share = 0.7}};
  const auto lines = [&](uint64_t seed) {
    std::string text;
    const LoadPlan plan = Plan(spec, {}, seed);
    for (const PlannedRequest& request : plan.requests) {
      text += absl::FormatDuration(request.at) + " " + std::to_string(request.prompt_tokens) + " " +
              std::to_string(request.output_tokens) + " " + std::to_string(request.slo_class) +
              RequestBody(request, plan, {}) + "\n";
    }
    return text;
  };
  EXPECT_EQ(lines(4), lines(4));
  EXPECT_NE(lines(4), lines(5));
}

TEST(Workload, LengthsDoNotMoveArrivals) {
  WorkloadSpec fixed, drawn;
  fixed.limit.max_requests = drawn.limit.max_requests = 30;
  drawn.lengths = *ParseLengths("uniform:5-900/1-80");
  const LoadPlan a = Plan(fixed), b = Plan(drawn);
  for (size_t i = 0; i < 30; ++i) EXPECT_EQ(a.requests[i].at, b.requests[i].at);
}

TEST(Workload, ClassesGetTheirShares) {
  WorkloadSpec spec;
  spec.limit.max_requests = 20'000;
  spec.classes = {
      {.name = "a", .share = 0.2}, {.name = "b", .share = 0.5}, {.name = "c", .share = 0.3}};
  int counts[3] = {};
  for (const PlannedRequest& request : Plan(spec).requests) ++counts[request.slo_class];
  EXPECT_NEAR(counts[0], 4000, 200);
  EXPECT_NEAR(counts[1], 10'000, 250);
  EXPECT_NEAR(counts[2], 6000, 250);
}

TEST(Workload, TraceIsReplayedAsItIs) {
  const LoadPlan plan = Plan(Replay(), Trace());
  ASSERT_EQ(plan.requests.size(), 5u);
  EXPECT_EQ(plan.requests[3].at, absl::Seconds(6));
  EXPECT_EQ(plan.requests[3].prompt_tokens, 1003);
  EXPECT_EQ(plan.requests[3].output_tokens, 13);
  EXPECT_EQ(plan.block_tokens, 512);
  EXPECT_DOUBLE_EQ(plan.offered_per_s, 0.5);
}

TEST(Workload, SpeedupAndRateRescaleTimes) {
  WorkloadSpec spec = Replay();
  spec.trace_speedup = 4;
  EXPECT_EQ(Plan(spec, Trace()).requests[4].at, absl::Seconds(2));
  spec.trace_speedup = 0;
  spec.trace_rate_per_s = 5;
  const LoadPlan plan = Plan(spec, Trace());
  EXPECT_DOUBLE_EQ(plan.trace_speedup, 10);
  EXPECT_NEAR(plan.offered_per_s, 5, 1e-9);
  spec.trace_speedup = 2;
  EXPECT_THAT(Why(spec, Trace()), HasSubstr("give one of them"));
}

TEST(Workload, FirstRowAndDurationSelectAWindow) {
  WorkloadSpec spec = Replay();
  spec.trace_first_row = 1;
  spec.limit.duration = absl::Seconds(5);
  const LoadPlan plan = Plan(spec, Trace());
  ASSERT_EQ(plan.requests.size(), 3u);
  EXPECT_EQ(plan.requests[0].at, absl::ZeroDuration());
  EXPECT_EQ(plan.requests[0].prompt_tokens, 1001);
  spec.trace_first_row = 5;
  EXPECT_THAT(Why(spec, Trace()), HasSubstr("rows 0 to 4"));
}

TEST(Workload, MoreRequestsThanRowsIsAnError) {
  WorkloadSpec spec = Replay();
  spec.limit.max_requests = 6;
  EXPECT_THAT(Why(spec, Trace()), HasSubstr("the trace has 5 rows"));
}

TEST(Workload, LengthScaleAlsoScalesBlocks) {
  WorkloadSpec spec = Replay();
  spec.length_scale = 0.125;
  const LoadPlan plan = Plan(spec, Trace());
  EXPECT_EQ(plan.block_tokens, 64);
  EXPECT_EQ(plan.requests[0].prompt_tokens, 125);
  EXPECT_EQ(plan.requests[0].output_tokens, 1);
}

TEST(Workload, SharedBlocksAreSharedTokensAndNothingElseIs) {
  for (const double scale : {1.0, 0.125}) {
    SCOPED_TRACE(scale);
    WorkloadSpec spec = Replay();
    spec.length_scale = scale;
    const LoadPlan plan = Plan(spec, Trace());
    const TokenRange range{3, 30'000};
    std::vector<std::vector<int32_t>> prompts;
    for (const auto& request : plan.requests) prompts.push_back(PromptTokens(request, plan, range));
    const auto common = [&](size_t a, size_t b) {
      const size_t shorter = std::min(prompts[a].size(), prompts[b].size());
      size_t i = 0;
      while (i < shorter && prompts[a][i] == prompts[b][i]) ++i;
      return static_cast<int>(i);
    };
    EXPECT_EQ(static_cast<int>(prompts[0].size()), plan.requests[0].prompt_tokens);
    // Rows 0 to 2 name blocks 0 and 1: all of the shorter prompt is shared.
    EXPECT_EQ(common(0, 2),
              std::min(plan.requests[0].prompt_tokens, plan.requests[2].prompt_tokens));
    // Row 3 has another second block.
    EXPECT_EQ(common(0, 3), plan.block_tokens);
  }
}

TEST(Workload, PromptsWithoutBlocksShareNothing) {
  WorkloadSpec spec;
  spec.limit.max_requests = 50;
  const LoadPlan plan = Plan(spec);
  std::set<std::vector<int32_t>> beginnings;
  for (const auto& request : plan.requests) {
    auto tokens = PromptTokens(request, plan, {3, 30'000});
    tokens.resize(4);
    beginnings.insert(tokens);
  }
  EXPECT_EQ(beginnings.size(), 50u);
}

TEST(Workload, TraceLengthsWithOtherArrivalsAreDrawnUnlessBlocksNeedTheirOrder) {
  WorkloadSpec spec;
  spec.lengths.kind = LengthKind::kTrace;
  spec.limit.max_requests = 8;
  const LoadPlan in_order = Plan(spec, Trace());
  EXPECT_EQ(in_order.requests[1].prompt_tokens, 1001);
  EXPECT_EQ(in_order.requests[7].prompt_tokens, 1002);  // around again
  std::vector<TraceRow> plain = Trace();
  for (TraceRow& row : plain) row.block_ids.clear();
  spec.limit.max_requests = 5000;
  int first_rows = 0;
  for (const auto& request : Plan(spec, plain).requests)
    first_rows += request.prompt_tokens == 1000;
  EXPECT_NEAR(first_rows, 1000, 120);
}

TEST(Workload, OverlongRequestsAreRefusedDroppedOrClipped) {
  WorkloadSpec spec = Replay();
  spec.max_model_len = 1013;  // rows 2, 3 and 4 have 1014, 1016 and 1018
  EXPECT_THAT(Why(spec, Trace()), HasSubstr("3 of 5 requests are longer"));
  spec.overlong = Overlong::kDrop;
  LoadPlan plan = Plan(spec, Trace());
  EXPECT_EQ(plan.requests.size(), 2u);
  EXPECT_EQ(plan.dropped, 3);
  spec.overlong = Overlong::kClip;
  plan = Plan(spec, Trace());
  EXPECT_EQ(plan.requests.size(), 5u);
  EXPECT_EQ(plan.clipped, 3);
  EXPECT_EQ(plan.requests[4].prompt_tokens, 999);
  EXPECT_EQ(plan.requests[4].output_tokens, 14);
}

TEST(Workload, OnlyWarmupIsAnError) {
  WorkloadSpec spec = Replay();
  spec.warmup_requests = 5;
  EXPECT_THAT(Why(spec, Trace()), HasSubstr("no measured request"));
}

TEST(RequestBody, IsWhatTheServerReads) {
  LoadPlan plan;
  PlannedRequest request{.prompt_tokens = 3, .output_tokens = 9, .content_seed = 5};
  BodySpec spec{.model = "de\"mo", .tokens = {10, 12}, .extra_fields = R"("top_k":4)"};
  auto body = nlohmann::json::parse(RequestBody(request, plan, spec));
  EXPECT_EQ(body["model"], "de\"mo");
  ASSERT_EQ(body["prompt"].size(), 3u);
  for (const auto& id : body["prompt"]) {
    EXPECT_GE(id, 10);
    EXPECT_LE(id, 12);
  }
  EXPECT_EQ(body["max_tokens"], 9);
  EXPECT_EQ(body["stream"], true);
  EXPECT_EQ(body["ignore_eos"], true);
  EXPECT_EQ(body["timings"], true);
  EXPECT_EQ(body["top_k"], 4);
  EXPECT_EQ(body["stream_options"]["continuous_usage_stats"], true);
  spec.endpoint = Endpoint::kChat;
  spec.ignore_eos = spec.timings = spec.continuous_usage = false;
  body = nlohmann::json::parse(RequestBody(request, plan, spec));
  EXPECT_TRUE(body["messages"][0]["content"].is_string());
  EXPECT_FALSE(body.contains("prompt"));
  EXPECT_FALSE(body.contains("ignore_eos"));
  EXPECT_FALSE(body["stream_options"].contains("continuous_usage_stats"));
}

TEST(TokenRangeOfVocabulary, LeavesOutBothEnds) {
  EXPECT_EQ(RangeOfVocabulary(32'000).first, 1000);
  EXPECT_EQ(RangeOfVocabulary(32'000).last, 30'999);
  EXPECT_EQ(RangeOfVocabulary(2048).first, 128);
  EXPECT_EQ(RangeOfVocabulary(2048).last, 1919);
  EXPECT_LE(RangeOfVocabulary(1).first, RangeOfVocabulary(1).last);
}

}  // namespace
}  // namespace baton::load
