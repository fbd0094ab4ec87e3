// The router proper against workers in this process that speak the Session protocol: what it
// serves, refuses, cancels and ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "router/link/start_router.h"
#include "tests/unit/router/link/fake_worker.h"
#include "tests/unit/router/link/router_fixture.h"

namespace baton::router {
namespace {

using ::testing::HasSubstr;

TEST_F(RouterTest, ServesARequestOverPrefillAndDecodeWorker) {
  AddWorker("prefill-0", Role::kPrefill);
  AddWorker("decode-0", Role::kDecode);
  StartAndWait();
  const RoutedRequest request = MakeRequest("Once upon a time", 12);
  const auto sink = Submit(request);
  ExpectWholeAnswer(request, *sink);
  const RequestSummary summary = *sink->summary();
  EXPECT_EQ(summary.prompt_tokens, 16);
  EXPECT_EQ(summary.timings.prefill_worker, "prefill-0");
  EXPECT_EQ(summary.timings.decode_worker, "decode-0");
  EXPECT_EQ(summary.timings.kv_bytes, 1000);
  EXPECT_EQ(summary.timings.prefill_ms, 3);
  EXPECT_EQ(summary.timings.transport, "loopback");
  EXPECT_EQ(summary.timings.attempts, 1);
  ASSERT_EQ(sink->finishes().size(), 1u);
  EXPECT_EQ(sink->finishes()[0].reason, FinishReason::kLength);
  ExpectNothingHeld();
}

TEST_F(RouterTest, ServesARequestOnAWorkerOfRoleBoth) {
  AddWorker("both-0", Role::kBoth);
  StartAndWait();
  const RoutedRequest request = MakeRequest("Once upon", 9, 3);
  const auto sink = Submit(request);
  ExpectWholeAnswer(request, *sink);
  EXPECT_EQ(sink->finishes().size(), 3u);
  ExpectNothingHeld();
}

TEST_F(RouterTest, CancelReachesBothWorkersInEveryPhase) {
  FakeWorker& prefill = AddWorker("prefill-0", Role::kPrefill);
  FakeWorker& decode = AddWorker("decode-0", Role::kDecode);
  StartAndWait();
  const auto expect_aborted = [&](RequestId id, RecordingSink& sink) {
    router_->Cancel(id);
    router_->Cancel(id);
    ASSERT_TRUE(sink.WaitForEnd());
    ASSERT_TRUE(sink.error().has_value());
    EXPECT_EQ(sink.error()->code, RequestErrorCode::kAborted);
    ExpectNothingHeld();
  };
  RequestId id;
  prefill.HoldPrefill(true);
  auto sink = Submit(MakeRequest("in prefill", 10), &id);
  ASSERT_TRUE(WaitFor([&] { return prefill.open_keys() == 1; }));
  expect_aborted(id, *sink);
  EXPECT_EQ(prefill.aborts(), 1);
  EXPECT_EQ(decode.aborts(), 1);
  prefill.HoldPrefill(false);
  decode.SetGate(3);
  sink = Submit(MakeRequest("decoding", 10), &id);
  ASSERT_TRUE(sink->WaitForTokens(3));
  expect_aborted(id, *sink);
  EXPECT_EQ(decode.aborts(), 2);
  decode.SetRoom(0);
  sink = Submit(MakeRequest("queued", 10), &id);
  ASSERT_TRUE(WaitFor([&] { return router_->load().requests_waiting == 1; }));
  EXPECT_TRUE(router_->CancelExternal("queued"));
  EXPECT_FALSE(router_->CancelExternal("unknown"));
  expect_aborted(id, *sink);
}

TEST_F(RouterTest, AStopStringEndsOneSampleAtItsWorkerAndTheOthersGoOn) {
  AddWorker("prefill-0", Role::kPrefill);
  FakeWorker& decode = AddWorker("decode-0", Role::kDecode);
  StartAndWait();
  RoutedRequest request = MakeRequest("with a stop string", 30, 2);
  const std::string text = tokenizer_.Decode(FakeOutput(request.spec, 1), true);
  request.output.stop = {text.substr(2, 4)};
  const std::string other = tokenizer_.Decode(FakeOutput(request.spec, 0), true);
  ASSERT_EQ(other.find(request.output.stop[0]), std::string::npos);
  decode.SetGate(10);
  const auto sink = Submit(request);
  ASSERT_TRUE(WaitFor([&] { return decode.sample_aborts() == 1; }));
  decode.SetGate(1000);
  ASSERT_TRUE(sink->WaitForEnd());
  ASSERT_FALSE(sink->error().has_value()) << sink->error()->message;
  EXPECT_EQ(sink->text(0), other);
  EXPECT_EQ(sink->text(1), text.substr(0, 2));
  EXPECT_EQ(sink->summary()->completion_tokens, 30 + 6);
  ExpectNothingHeld();
}

TEST_F(RouterTest, WaitsForRoomAndThenServes) {
  AddWorker("prefill-0", Role::kPrefill);
  FakeWorker& decode = AddWorker("decode-0", Role::kDecode);
  StartAndWait();
  decode.SetRoom(0);
  const RoutedRequest request = MakeRequest("patience", 4);
  const auto sink = Submit(request);
  ASSERT_TRUE(WaitFor([&] { return router_->load().requests_waiting == 1; }));
  decode.SetRoom(1);
  ExpectWholeAnswer(request, *sink);
  EXPECT_EQ(sink->summary()->timings.attempts, 1);
}

TEST_F(RouterTest, DrainFinishesWhatRunsAndRefusesWhatIsNew) {
  FakeWorker& both = AddWorker("both-0", Role::kBoth);
  StartAndWait();
  both.SetGate(2);
  const RoutedRequest running = MakeRequest("running", 8);
  const auto sink = Submit(running);
  ASSERT_TRUE(sink->WaitForTokens(2));
  router_->Drain();
  const auto refused = Submit(MakeRequest("late", 8));
  ASSERT_TRUE(refused->WaitForEnd());
  EXPECT_EQ(refused->error()->code, RequestErrorCode::kDraining);
  EXPECT_EQ(router_->readiness().phase, ReadyPhase::kDraining);
  EXPECT_FALSE(router_->WaitUntilIdle(absl::ZeroDuration()));
  both.SetGate(100);
  EXPECT_TRUE(router_->WaitUntilIdle(kWait));
  ExpectWholeAnswer(running, *sink);
}

TEST_F(RouterTest, DestroyingTheRouterEndsEveryOpenRequest) {
  FakeWorker& both = AddWorker("both-0", Role::kBoth);
  StartAndWait();
  both.SetGate(2);
  const auto sink = Submit(MakeRequest("running", 8));
  ASSERT_TRUE(sink->WaitForTokens(2));
  router_.reset();
  ASSERT_TRUE(sink->error().has_value());
  EXPECT_EQ(sink->error()->code, RequestErrorCode::kDraining);
  EXPECT_TRUE(WaitFor([&] { return both.open_keys() == 0; }));
}

TEST_F(RouterTest, AWorkerOfAnotherModelIsNotUsed) {
  AddWorker("both-0", Role::kBoth);
  StartAndWait();
  EXPECT_EQ(router_->model().name, "fake");
  EXPECT_EQ(router_->model().max_model_len, 4096);
  router_.reset();
  AddWorker({.id = "both-1", .role = Role::kBoth, .fingerprint = 8});
  absl::StatusOr<std::unique_ptr<Router>> router =
      StartRouter(options_, tokenizer_, clock_, log_, metrics_);
  ASSERT_TRUE(router.ok());
  router_ = *std::move(router);
  ASSERT_TRUE(WaitFor([this] { return router_->readiness().phase == ReadyPhase::kReady; }));
  for (int i = 0; i < 4; ++i) {
    const RoutedRequest request = MakeRequest(absl::StrCat("request ", i), 4);
    ExpectWholeAnswer(request, *Submit(request));
  }
  EXPECT_EQ(AliveWorkers(), 1u);
}

TEST_F(RouterTest, EndTokensEndTheTextAndAreNotShown) {
  AddWorker(
      {.id = "both-0", .role = Role::kBoth, .eos_at = 3, .eos_token = tokenizer_.eos_token()});
  StartAndWait();
  const RoutedRequest request = MakeRequest("short", 20);
  const auto sink = Submit(request);
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->text(0), tokenizer_.Decode(FakeOutput(request.spec, 0), true).substr(0, 3));
  EXPECT_EQ(sink->finishes()[0].reason, FinishReason::kStop);
  EXPECT_EQ(sink->summary()->completion_tokens, 4);
}

TEST_F(RouterTest, ServesManyThreadsThatCancelHalfOfWhatTheyAsk) {
  AddWorker("prefill-0", Role::kPrefill);
  AddWorker("prefill-1", Role::kPrefill);
  AddWorker("decode-0", Role::kDecode);
  AddWorker("decode-1", Role::kDecode);
  StartAndWait();
  constexpr int kThreads = 4, kEach = 40;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const RoutedRequest request = MakeRequest(absl::StrCat("thread ", t, " request ", i), 20);
        RequestId id;
        const auto sink = Submit(request, &id);
        if (i % 2 == 0) {
          ExpectWholeAnswer(request, *sink);
          continue;
        }
        if (i % 4 == 1) {
          EXPECT_TRUE(sink->WaitForTokens(1));
        }
        router_->Cancel(id);
        EXPECT_TRUE(sink->WaitForEnd());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ExpectNothingHeld();
  // The view is published at intervals.
  EXPECT_TRUE(WaitFor([&] { return router_->load().requests_running == 0; }));
}

TEST(StartRouter, NamesTheOptionAtFault) {
  FakeTokenizer tokenizer;
  MonotonicClock clock;
  Logger log("router", LogLevel::kError, LogFormat::kText);
  MetricRegistry metrics;
  const auto message = [&](const RouterOptions& options) {
    return StartRouter(options, tokenizer, clock, log, metrics).status().ToString();
  };
  EXPECT_THAT(message({}), HasSubstr("workers"));
  EXPECT_THAT(message({.workers = {"nonsense"}}), HasSubstr("\"nonsense\" is not host:port"));
  EXPECT_THAT(message({.workers = {"a:1", "a:1"}}), HasSubstr("twice"));
  EXPECT_THAT(message({.workers = {"a:1"}, .slo_tpot_ms = 0}), HasSubstr("slo_tpot_ms"));
  EXPECT_THAT(message({.workers = {"a:1"}, .heartbeat = absl::ZeroDuration()}),
              HasSubstr("heartbeat"));
}

}  // namespace
}  // namespace baton::router
