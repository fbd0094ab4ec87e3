#include "bench/load/client/probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/bench/scripted_server.h"

namespace baton::load {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::Duration kTimeout = absl::Seconds(20);

Target TargetAt(const ScriptedServer& server) {
  Target target;
  target.url = {.host = "127.0.0.1", .port = std::to_string(server.port())};
  target.body.model = "m";
  return target;
}

ScriptedReply Good() { return {StreamReply({TokenEvent(1), TokenEvent(2), "[DONE]"})}; }
ScriptedReply Refusal(const std::string& why) {
  return {StatusReply(400, R"({"error":{"message":")" + why + R"("}})")};
}

TEST(ListModels, ReadsWhatTheServerTells) {
  ScriptedServer server([](size_t, const std::string&) {
    return ScriptedReply{
        StatusReply(200, R"({"data":[{"id":"a","max_model_len":2048,"vocab_size":4096},)"
                         R"({"id":"b","max_model_len":-5},{"nameless":1}]})")};
  });
  const auto models = ListModels(TargetAt(server), kTimeout);
  ASSERT_TRUE(models.ok()) << models.status();
  ASSERT_EQ(models->size(), 2u);
  EXPECT_EQ((*models)[0].id, "a");
  EXPECT_EQ((*models)[0].max_model_len, 2048);
  EXPECT_EQ((*models)[0].vocab_size, 4096);
  EXPECT_EQ((*models)[1].max_model_len, 0);  // nonsense is not told
}

TEST(ListModels, SaysWhatTheServerDidInstead) {
  for (const auto& [reply, words] : std::vector<std::pair<ScriptedReply, std::string>>{
           {{StatusReply(404, "")}, "HTTP 404"},
           {{StatusReply(200, "[1]")}, "not a list of models"},
           {{StatusReply(200, R"({"data":[]})")}, "lists no model"},
           {{"hello\r\n\r\n"}, "not HTTP"},
           {{"", ScriptedReply::Then::kClose}, "closed the connection"}}) {
    ScriptedServer server([&reply = reply](size_t, const std::string&) { return reply; });
    const auto models = ListModels(TargetAt(server), kTimeout);
    EXPECT_THAT(std::string(models.status().message()), HasSubstr(words));
  }
}

TEST(ListModels, DoesNotWaitForever) {
  ScriptedServer server([](size_t, const std::string&) {
    return ScriptedReply{"", ScriptedReply::Then::kHold};
  });
  const auto models = ListModels(TargetAt(server), absl::Milliseconds(50));
  EXPECT_TRUE(absl::IsUnavailable(models.status())) << models.status();
  EXPECT_THAT(std::string(models.status().message()), HasSubstr("no answer within 50ms"));
}

TEST(NegotiateBody, KeepsEverythingThatTheServerTakes) {
  ScriptedServer server([](size_t, const std::string&) { return Good(); });
  Target target = TargetAt(server);
  const auto given_up = NegotiateBody(&target, kTimeout);
  ASSERT_TRUE(given_up.ok()) << given_up.status();
  EXPECT_THAT(*given_up, ElementsAre());
  EXPECT_TRUE(target.body.timings && target.body.ignore_eos && target.body.continuous_usage);
  EXPECT_EQ(target.body.format, PromptFormat::kTokenIds);
}

TEST(NegotiateBody, GivesUpOnlyWhatIsRefused) {
  struct Case {
    std::string refused;  // a part of the body
    bool timings, ignore_eos;
    PromptFormat format;
  };
  for (const Case& c : {Case{"\"timings\"", false, true, PromptFormat::kTokenIds},
                        Case{"\"ignore_eos\"", false, false, PromptFormat::kTokenIds},
                        Case{"\"prompt\":[", true, true, PromptFormat::kText}}) {
    SCOPED_TRACE(c.refused);
    ScriptedServer server([&](size_t, const std::string& request) {
      return request.find(c.refused) == std::string::npos ? Good() : Refusal("not taken");
    });
    Target target = TargetAt(server);
    const auto given_up = NegotiateBody(&target, kTimeout);
    ASSERT_TRUE(given_up.ok()) << given_up.status();
    EXPECT_EQ(target.body.timings, c.timings);
    EXPECT_EQ(target.body.ignore_eos, c.ignore_eos);
    EXPECT_EQ(target.body.format, c.format);
    EXPECT_FALSE(given_up->empty());
  }
}

TEST(NegotiateBody, StopsAtWhatIsNotARefusal) {
  ScriptedServer server(
      [](size_t, const std::string&) { return ScriptedReply{StatusReply(500, "broken")}; });
  Target target = TargetAt(server);
  const auto given_up = NegotiateBody(&target, kTimeout);
  EXPECT_EQ(given_up.status().message(), "bad_status (HTTP 500): broken");
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST(CheckSloClasses, NamesTheClassAndWhatTheServerSays) {
  ScriptedServer server([](size_t, const std::string& request) {
    return request.find("x-slo-class: gold") == std::string::npos ? Good()
                                                                  : Refusal("have chat, batch");
  });
  const Target target = TargetAt(server);
  EXPECT_TRUE(CheckSloClasses(target, {{.name = "chat"}, {.name = ""}}, kTimeout).ok());
  const absl::Status status =
      CheckSloClasses(target, {{.name = "chat"}, {.name = "gold"}}, kTimeout);
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_EQ(status.message(),
            "slo_class: the server refuses \"gold\" (HTTP 400): have chat, batch");
}

TEST(CheckSloClasses, LeavesOtherFailuresToTheRun) {
  ScriptedServer server(
      [](size_t, const std::string&) { return ScriptedReply{StatusReply(429, "full")}; });
  EXPECT_TRUE(CheckSloClasses(TargetAt(server), {{.name = "chat"}}, kTimeout).ok());
}

}  // namespace
}  // namespace baton::load
