#include "bench/load/client/run_load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/bench/scripted_server.h"

namespace baton::load {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using Then = ScriptedReply::Then;

std::string GoodStream() { return StreamReply({TokenEvent(1), TokenEvent(2), "[DONE]"}); }

LoadPlan Plan(int count, absl::Duration gap) {
  LoadPlan plan;
  plan.classes = {SloClass{.name = "chat"}};
  for (int i = 0; i < count; ++i) {
    plan.requests.push_back({.at = i * gap, .prompt_tokens = 4, .output_tokens = 2});
  }
  return plan;
}

Target TargetAt(uint16_t port) {
  Target target;
  target.url = {.host = "127.0.0.1", .port = std::to_string(port)};
  target.body.model = "m";
  target.timeout = absl::Seconds(20);
  return target;
}

LoadResult Send(const LoadPlan& plan, const Target& target, const LoadHooks& hooks = {}) {
  auto result = RunLoad(plan, target, hooks);
  EXPECT_TRUE(result.ok()) << result.status();
  return *std::move(result);
}

RequestRecord RunOne(ScriptedReply reply) {
  ScriptedServer server([&](size_t, const std::string&) { return reply; });
  return Send(Plan(1, absl::ZeroDuration()), TargetAt(server.port())).records.at(0);
}

TEST(RunLoad, AGoodAnswerIsRecordedWhole) {
  const RequestRecord record = RunOne({GoodStream()});
  EXPECT_EQ(record.outcome, Outcome::kOk) << record.detail;
  EXPECT_EQ(record.http_status, 200);
  EXPECT_EQ(record.output_tokens, 2);
  EXPECT_TRUE(record.exact_count);
  EXPECT_EQ(record.reported_prompt_tokens, 4);
  EXPECT_EQ(record.gaps_ms.size(), 1u);
  EXPECT_LE(record.intended_ms, record.sent_ms);
  EXPECT_LE(record.sent_ms, record.first_ms);
  EXPECT_LE(record.first_ms, record.last_ms);
  EXPECT_LE(record.last_ms, record.end_ms);
}

struct LieCase {
  const char* name;
  ScriptedReply reply;
  Outcome outcome;
  const char* detail;
};
class LieTest : public ::testing::TestWithParam<LieCase> {};

TEST_P(LieTest, IsCountedAndNamed) {
  const RequestRecord record = RunOne(GetParam().reply);
  EXPECT_EQ(OutcomeName(record.outcome), OutcomeName(GetParam().outcome));
  EXPECT_THAT(record.detail, HasSubstr(GetParam().detail));
}

std::string Cut(std::string text, size_t from_end) {
  text.resize(text.size() - from_end);
  return text;
}

INSTANTIATE_TEST_SUITE_P(
    Servers, LieTest,
    ::testing::Values(
        LieCase{"TooMany",
                {StatusReply(429, R"({"error":{"message":"full"}})")},
                Outcome::kRejected,
                "full"},
        LieCase{"Unavailable", {StatusReply(503, "drain")}, Outcome::kRejected, "drain"},
        LieCase{"Broken", {StatusReply(500, "oh\nno")}, Outcome::kBadStatus, "oh no"},
        LieCase{"NotAStream", {StatusReply(200, "{}")}, Outcome::kNotAStream, ""},
        LieCase{"NoDone", {StreamReply({TokenEvent(1), TokenEvent(2)})}, Outcome::kNoDone, ""},
        LieCase{"Empty", {StreamReply({"[DONE]"})}, Outcome::kNoTokens, ""},
        LieCase{"TooLong",
                {StreamReply({TokenEvent(1), TokenEvent(2), TokenEvent(3), "[DONE]"})},
                Outcome::kTooManyTokens,
                ""},
        LieCase{"BadJson",
                {StreamReply({TokenEvent(1), "{\"choices\": [", "[DONE]"})},
                Outcome::kBadJson,
                "choices"},
        LieCase{"ErrorEvent",
                {StreamReply({TokenEvent(1), R"({"error":{"message":"worker lost"}})"})},
                Outcome::kServerError,
                "worker lost"},
        LieCase{"CutInTheMiddle",
                {Cut(GoodStream(), 24), Then::kClose},
                Outcome::kDisconnected,
                "after 2 tokens"},
        LieCase{"ClosedAtOnce", {"", Then::kClose}, Outcome::kDisconnected, "before the answer"},
        LieCase{"NotHttp", {"SSH-2.0-OpenSSH_9.2\r\n"}, Outcome::kBadHttp, ""}),
    [](const auto& instance) { return std::string(instance.param.name); });

TEST(RunLoad, NobodyListeningIsCounted) {
  uint16_t port = 0;
  {
    port = ScriptedServer([](size_t, const std::string&) { return ScriptedReply{}; }).port();
  }
  const LoadResult result = Send(Plan(3, absl::Milliseconds(1)), TargetAt(port));
  ASSERT_EQ(result.records.size(), 3u);
  for (const RequestRecord& record : result.records) {
    EXPECT_EQ(record.outcome, Outcome::kConnectFailed);
    EXPECT_THAT(record.detail, HasSubstr("refused"));
  }
}

TEST(RunLoad, ASilentServerIsTimedOutAndDoesNotHoldUpTheOthers) {
  ScriptedServer server([](size_t, const std::string&) { return ScriptedReply{"", Then::kHold}; });
  Target target = TargetAt(server.port());
  target.timeout = absl::Milliseconds(150);
  const LoadResult result = Send(Plan(20, absl::Milliseconds(2)), target);
  ASSERT_EQ(result.records.size(), 20u);
  // Open loop: all were sent, each on a connection of its own, though none was answered.
  EXPECT_EQ(result.overhead.connections, 20);
  for (const RequestRecord& record : result.records) {
    EXPECT_EQ(record.outcome, Outcome::kTimedOut);
    EXPECT_GE(record.end_ms - record.intended_ms, 150);
  }
  EXPECT_LT(result.overhead.wall_s, 10);
}

TEST(RunLoad, AStreamThatStopsInTheMiddleIsTimedOut) {
  ScriptedServer server([](size_t, const std::string&) {
    return ScriptedReply{Cut(GoodStream(), 24), Then::kHold};
  });
  Target target = TargetAt(server.port());
  target.timeout = absl::Milliseconds(150);
  const LoadResult result = Send(Plan(1, absl::ZeroDuration()), target);
  EXPECT_EQ(result.records[0].outcome, Outcome::kTimedOut);
  EXPECT_EQ(result.records[0].output_tokens, 2);
}

TEST(RunLoad, AnIdleConnectionIsUsedAgain) {
  ScriptedServer server([](size_t, const std::string&) { return ScriptedReply{GoodStream()}; });
  const LoadResult result = Send(Plan(3, absl::Milliseconds(200)), TargetAt(server.port()));
  for (const RequestRecord& record : result.records) EXPECT_EQ(record.outcome, Outcome::kOk);
  EXPECT_EQ(result.overhead.connections, 1);
  EXPECT_EQ(result.overhead.output_tokens, 6);
}

TEST(RunLoad, AKeptConnectionThatTheServerClosedIsReplaced) {
  ScriptedServer server([](size_t index, const std::string&) {
    // Says keep-alive, and closes before the second answer.
    return index == 1 ? ScriptedReply{"", Then::kClose} : ScriptedReply{GoodStream()};
  });
  const LoadResult result = Send(Plan(2, absl::Milliseconds(200)), TargetAt(server.port()));
  EXPECT_EQ(result.records[0].outcome, Outcome::kOk);
  EXPECT_EQ(result.records[1].outcome, Outcome::kOk) << result.records[1].detail;
  EXPECT_EQ(result.overhead.reconnections, 1);
  EXPECT_EQ(server.requests().size(), 3u);
}

TEST(RunLoad, TheClassIsSentAsAHeader) {
  ScriptedServer server([](size_t, const std::string&) { return ScriptedReply{GoodStream()}; });
  Target target = TargetAt(server.port());
  target.headers = {{"x-test", "1"}};
  (void)Send(Plan(2, absl::ZeroDuration()), target);
  EXPECT_THAT(server.requests(), Each(HasSubstr("x-slo-class: chat\r\n")));
  EXPECT_THAT(server.requests(), Each(HasSubstr("x-test: 1\r\n")));
}

TEST(RunLoad, AHookEndsTheRunAndWhatIsInFlightIsAborted) {
  ScriptedServer server([](size_t, const std::string&) { return ScriptedReply{"", Then::kHold}; });
  LoadHooks hooks;
  hooks.interval = absl::ZeroDuration();
  hooks.on_progress = [](const LoadProgress& progress) { return progress.sent < 1; };
  const LoadResult result = Send(Plan(2, absl::Seconds(100)), TargetAt(server.port()), hooks);
  EXPECT_TRUE(result.interrupted);
  ASSERT_EQ(result.records.size(), 1u);  // the second was never sent
  EXPECT_EQ(result.records[0].outcome, Outcome::kAborted);
}

TEST(RunLoad, TheClientMeasuresItself) {
  ScriptedServer server([](size_t, const std::string&) { return ScriptedReply{GoodStream()}; });
  const LoadResult result = Send(Plan(20, absl::Milliseconds(10)), TargetAt(server.port()));
  EXPECT_GT(result.overhead.cpu_s, 0);
  EXPECT_GT(result.overhead.wall_s, 0.18);
  EXPECT_GT(result.overhead.cpu_per_token_us(), 0);
  EXPECT_GT(result.overhead.loop_lag_ms.count, 0);
  // The kernel begins to stamp shortly after the first socket asked for it: the first replies can
  // come without.
  EXPECT_GT(result.overhead.read_lag_ms.count, 0);
  EXPECT_LT(result.overhead.read_lag_ms.max, 60'000);
}

}  // namespace
}  // namespace baton::load
