// The router proper against workers in this process that speak the Session protocol.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "router/cluster_report.h"
#include "router/link/slo_config.h"
#include "router/link/start_router.h"
#include "tests/unit/router/fake_tokenizer.h"
#include "tests/unit/router/link/fake_worker.h"

namespace baton::router {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kWait = absl::Seconds(20);

// Records what it is told. Thread-safe.
class RecordingSink final : public ResponseSink {
 public:
  void OnPromptLogprobs(std::vector<OutputToken>) override {}
  void OnDelta(SampleDelta delta) override {
    absl::MutexLock lock(&mutex_);
    BATON_CHECK(!ended_) << "delta after the end";
    const auto sample = static_cast<size_t>(delta.sample);
    if (texts_.size() <= sample) texts_.resize(sample + 1);
    texts_[sample] += delta.text;
    for (const OutputToken& token : delta.tokens) {
      tokens_.emplace_back(delta.sample, token.token);
    }
    if (delta.finished) finishes_.push_back(delta);
  }
  void OnFinish(RequestSummary summary) override {
    absl::MutexLock lock(&mutex_);
    BATON_CHECK(!ended_) << "a second end";
    ended_ = true;
    summary_ = std::move(summary);
  }
  void OnError(RequestError error) override {
    absl::MutexLock lock(&mutex_);
    BATON_CHECK(!ended_) << "a second end";
    ended_ = true;
    error_ = std::move(error);
  }

  [[nodiscard]] bool WaitForEnd() {
    absl::MutexLock lock(&mutex_);
    return mutex_.AwaitWithTimeout(absl::Condition(&ended_), kWait);
  }
  [[nodiscard]] bool WaitForTokens(size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return tokens_.size() >= count || ended_;
    };
    return mutex_.AwaitWithTimeout(absl::Condition(&enough), kWait);
  }
  std::vector<TokenId> tokens(int32_t sample) {
    absl::MutexLock lock(&mutex_);
    std::vector<TokenId> out;
    for (const auto& [s, token] : tokens_) {
      if (s == sample) out.push_back(token);
    }
    return out;
  }
  std::string text(size_t sample) {
    absl::MutexLock lock(&mutex_);
    return sample < texts_.size() ? texts_[sample] : "";
  }
  std::vector<SampleDelta> finishes() {
    absl::MutexLock lock(&mutex_);
    return finishes_;
  }
  std::optional<RequestSummary> summary() {
    absl::MutexLock lock(&mutex_);
    return summary_;
  }
  std::optional<RequestError> error() {
    absl::MutexLock lock(&mutex_);
    return error_;
  }

 private:
  absl::Mutex mutex_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::string> texts_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<int32_t, TokenId>> tokens_ ABSL_GUARDED_BY(mutex_);
  std::vector<SampleDelta> finishes_ ABSL_GUARDED_BY(mutex_);
  std::optional<RequestSummary> summary_ ABSL_GUARDED_BY(mutex_);
  std::optional<RequestError> error_ ABSL_GUARDED_BY(mutex_);
};

class RouterTest : public ::testing::Test {
 protected:
  FakeWorker& AddWorker(FakeWorkerOptions options) {
    workers_.push_back(std::make_unique<FakeWorker>(options, &wire_));
    options_.workers.push_back(workers_.back()->address());
    return *workers_.back();
  }
  FakeWorker& AddWorker(const std::string& id, Role role) {
    return AddWorker(FakeWorkerOptions{.id = id, .role = role});
  }

  void StartAndWait() {
    options_.heartbeat = absl::Milliseconds(100);
    options_.missed_heartbeats = missed_heartbeats_;
    options_.worker_lease = absl::Seconds(2);
    options_.reconnect_min = absl::Milliseconds(10);
    options_.reconnect_max = absl::Milliseconds(50);
    absl::StatusOr<std::unique_ptr<Router>> router =
        StartRouter(options_, tokenizer_, clock_, log_, metrics_);
    ASSERT_TRUE(router.ok()) << router.status();
    router_ = *std::move(router);
    ASSERT_TRUE(WaitFor([this] { return AliveWorkers() == workers_.size(); }));
    ASSERT_TRUE(WaitFor([this] { return router_->readiness().phase == ReadyPhase::kReady; }));
  }

  // Looks again until it holds; the condition lies behind the router's own threads.
  template <typename F>
  bool WaitFor(F condition) {
    const absl::Time end = absl::Now() + kWait;
    absl::Mutex mutex;
    while (!condition()) {
      if (absl::Now() > end) return false;
      absl::MutexLock lock(&mutex);
      bool never = false;
      mutex.AwaitWithTimeout(absl::Condition(&never), absl::Milliseconds(2));
    }
    return true;
  }
  size_t AliveWorkers() {
    size_t alive = 0;
    for (const LoadView::Worker& worker : router_->load().workers) alive += worker.alive ? 1 : 0;
    return alive;
  }

  RoutedRequest MakeRequest(const std::string& prompt, int32_t max_tokens, int32_t samples = 1) {
    RoutedRequest request;
    request.spec.tokens = tokenizer_.Encode(prompt, false, false);
    request.spec.prompt_length = static_cast<int32_t>(request.spec.tokens.size());
    request.spec.num_samples = samples;
    request.spec.sampling.seed = 42;
    request.spec.stopping.max_tokens = max_tokens;
    request.external_id = prompt;
    request.timeout = absl::Seconds(30);
    return request;
  }
  std::shared_ptr<RecordingSink> Submit(const RoutedRequest& request, RequestId* id = nullptr) {
    auto sink = std::make_shared<RecordingSink>();
    const RequestId given = router_->Submit(request, sink);
    if (id != nullptr) *id = given;
    return sink;
  }
  void ExpectWholeAnswer(const RoutedRequest& request, RecordingSink& sink) {
    ASSERT_TRUE(sink.WaitForEnd());
    ASSERT_FALSE(sink.error().has_value()) << sink.error()->message;
    int32_t total = 0;
    for (int32_t sample = 0; sample < request.spec.num_samples; ++sample) {
      const std::vector<TokenId> expected = FakeOutput(request.spec, sample);
      EXPECT_EQ(sink.tokens(sample), expected);
      EXPECT_EQ(sink.text(static_cast<size_t>(sample)), tokenizer_.Decode(expected, true));
      total += static_cast<int32_t>(expected.size());
    }
    EXPECT_EQ(sink.summary()->completion_tokens, total);
  }
  void ExpectNothingHeld() {
    EXPECT_TRUE(router_->WaitUntilIdle(kWait));
    for (const auto& worker : workers_) {
      EXPECT_TRUE(WaitFor([&] { return worker->open_keys() == 0; }));
    }
  }

  int32_t missed_heartbeats_ = 100;  // a busy machine is not a dead worker
  FakeTokenizer tokenizer_;
  MonotonicClock clock_;
  Logger log_{"router", LogLevel::kError, LogFormat::kText};
  MetricRegistry metrics_;
  FakeWire wire_;
  RouterOptions options_;
  std::vector<std::unique_ptr<FakeWorker>> workers_;
  std::unique_ptr<Router> router_;
};

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

TEST_F(RouterTest, LosesNoRequestWhenOneOfTwoPrefillWorkersIsKilled) {
  FakeWorker& first = AddWorker("prefill-0", Role::kPrefill);
  FakeWorker& second = AddWorker("prefill-1", Role::kPrefill);
  AddWorker("decode-0", Role::kDecode);
  StartAndWait();
  first.HoldPrefill(true);
  second.HoldPrefill(true);
  std::vector<RoutedRequest> requests;
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 10; ++i) {
    requests.push_back(MakeRequest(absl::StrCat("request number ", i), 6));
    sinks.push_back(Submit(requests.back()));
  }
  ASSERT_TRUE(WaitFor([&] { return first.open_keys() + second.open_keys() == 10; }));
  first.Kill();
  ASSERT_TRUE(WaitFor([&] { return second.open_keys() >= 8; }));
  second.HoldPrefill(false);
  int retried = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    ExpectWholeAnswer(requests[i], *sinks[i]);
    retried += sinks[i]->summary()->timings.attempts - 1;
  }
  EXPECT_GT(retried, 0);
}

TEST_F(RouterTest, KillingTheOnlyDecodeWorkerGivesEachOpenRequestOneErrorAndTheClusterRecovers) {
  AddWorker("prefill-0", Role::kPrefill);
  FakeWorker& decode = AddWorker("decode-0", Role::kDecode);
  StartAndWait();
  decode.SetGate(3);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 6; ++i) sinks.push_back(Submit(MakeRequest(absl::StrCat("open ", i), 50)));
  for (const auto& sink : sinks) ASSERT_TRUE(sink->WaitForTokens(3));
  const absl::Time killed = absl::Now();
  decode.Kill();
  for (const auto& sink : sinks) {
    ASSERT_TRUE(sink->WaitForEnd());
    ASSERT_TRUE(sink->error().has_value());
    EXPECT_EQ(sink->error()->code, RequestErrorCode::kDecodeLost);
  }
  EXPECT_LT(absl::Now() - killed, absl::Seconds(5));
  ASSERT_TRUE(WaitFor([&] { return router_->readiness().phase == ReadyPhase::kLoading; }));
  EXPECT_EQ(router_->readiness().detail, "waiting for a decode worker");
  decode.SetGate(1000);
  decode.Start();
  const RoutedRequest again = MakeRequest("after the restart", 5);
  ExpectWholeAnswer(again, *Submit(again));
  ExpectNothingHeld();
}

TEST_F(RouterTest, AStreamGoesOnWithTheSameTokensWhenItsDecodeWorkerIsKilled) {
  AddWorker("prefill-0", Role::kPrefill);
  FakeWorker& first = AddWorker("decode-0", Role::kDecode);
  FakeWorker& second = AddWorker("decode-1", Role::kDecode);
  StartAndWait();
  for (const int32_t samples : {1, 3}) {
    first.SetGate(4);
    second.SetGate(4);
    const RoutedRequest request =
        MakeRequest(absl::StrCat("request of ", samples, " samples"), 20, samples);
    const auto sink = Submit(request);
    ASSERT_TRUE(sink->WaitForTokens(static_cast<size_t>(4 * samples)));
    FakeWorker& holder = first.open_keys() > 0 ? first : second;
    ASSERT_EQ(first.open_keys() + second.open_keys(), 1);
    FakeWorker& other = &holder == &first ? second : first;
    other.SetGate(1000);
    holder.Kill();
    ExpectWholeAnswer(request, *sink);
    EXPECT_EQ(sink->summary()->timings.attempts, 2);
    ASSERT_TRUE(WaitFor([this] { return AliveWorkers() == workers_.size() - 1; }));
    holder.Start();
    ASSERT_TRUE(WaitFor([this] { return AliveWorkers() == workers_.size(); }));
  }
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

TEST_F(RouterTest, APairWhoseHandoffsFailIsShownAndServesAgainWhenTheyArrive) {
  AddWorker("prefill-0", Role::kPrefill);
  AddWorker("decode-0", Role::kDecode);
  StartAndWait();
  wire_.SetCorrupt(true);
  for (int i = 0; i < 2; ++i) {  // two attempts each
    const auto sink = Submit(MakeRequest("Once upon a time", 6));
    ASSERT_TRUE(sink->WaitForEnd());
    ASSERT_TRUE(sink->error().has_value());
    EXPECT_EQ(sink->error()->code, RequestErrorCode::kPrefillLost);
  }
  ASSERT_TRUE(WaitFor([&] { return !router_->report().ejected_pairs.empty(); }));
  const ClusterReport::EjectedPair pair = router_->report().ejected_pairs[0];
  EXPECT_EQ(pair.prefill, "prefill-0");
  EXPECT_EQ(pair.decode, "decode-0");
  EXPECT_EQ(pair.standing, "ejected");
  const std::string text = metrics_.Render();
  EXPECT_THAT(text, HasSubstr("baton_pairs_ejected 1"));
  EXPECT_THAT(text, HasSubstr("baton_router_ejections_total{what=\"pair\"} 1"));
  wire_.SetCorrupt(false);
  const RoutedRequest request = MakeRequest("Once upon a time", 6);
  ExpectWholeAnswer(request, *Submit(request));  // there is no other pair
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

TEST_F(RouterTest, ASilentWorkerLosesItsSessionAndComesBack) {
  FakeWorker& both = AddWorker("both-0", Role::kBoth);
  missed_heartbeats_ = 3;
  StartAndWait();
  both.SetGate(1);
  const auto sink = Submit(MakeRequest("stuck", 8));
  ASSERT_TRUE(sink->WaitForTokens(1));
  both.SetSilent(true);
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->error()->code, RequestErrorCode::kDecodeLost);
  EXPECT_TRUE(WaitFor([&] { return both.open_keys() == 0; })) << "its session has ended";
  both.SetSilent(false);
  both.SetGate(100);
  EXPECT_TRUE(WaitFor([this] { return router_->readiness().phase == ReadyPhase::kReady; }));
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

TEST_F(RouterTest, SeriesExistAtZeroAndCountRequests) {
  AddWorker("prefill-0", Role::kPrefill);
  AddWorker("decode-0", Role::kDecode);
  options_.model_name = "m";
  options_.slo_ttft_ms = 60'000;
  options_.slo_tpot_ms = 123;
  StartAndWait();
  std::string text = metrics_.Render();
  for (const char* series :
       {"baton_requests_running 0", "baton_requests_waiting 0", "baton_prompt_tokens_total 0",
        "baton_request_success_total{finish_reason=\"length\"} 0", "le=\"0.123\"} 0",
        "baton_slo_requests_total{missed_stage=\"queue\",model=\"m\",result=\"ttft_miss\","
        "slo_class=\"default\"} 0",
        "baton_slo_threshold_seconds{metric=\"tpot\",slo_class=\"default\"} 0.123",
        "baton_request_stage_seconds_count{stage=\"decode_queue\"} 0",
        "baton_goodput_tokens_total 0", "baton_router_placements_total{path=\"in_place\"} 0",
        "baton_router_admission_total{verdict=\"floor\"} 0",
        "baton_router_prediction_error_ratio_count{metric=\"tpot\"} 0",
        "baton_router_kv_resyncs_total 0", "baton_workers_ejected{role=\"decode\"} 0",
        "baton_pairs_ejected 0", "baton_router_ejections_total{what=\"worker\"} 0"}) {
    EXPECT_THAT(text, HasSubstr(series));
  }
  const RoutedRequest request = MakeRequest("Once upon a time", 12);
  ExpectWholeAnswer(request, *Submit(request));
  ASSERT_TRUE(router_->WaitUntilIdle(kWait));
  text = metrics_.Render();
  for (const char* series :
       {"baton_request_success_total{finish_reason=\"length\"} 1", "baton_prompt_tokens_total 16",
        "baton_generation_tokens_total 12", "baton_time_to_first_token_seconds_count 1",
        "baton_inter_token_latency_seconds_count 11", "baton_goodput_tokens_total 12",
        "baton_request_stage_seconds_count{stage=\"decode_queue\"} 1",
        "baton_router_placements_total{path=\"handoff\"} 1",
        "baton_router_admission_total{verdict=\"admitted\"} 1",
        "baton_slo_requests_total{missed_stage=\"none\",model=\"m\",result=\"good\","
        "slo_class=\"default\"} 1"}) {
    EXPECT_THAT(text, HasSubstr(series));
  }
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

TEST_F(RouterTest, EachSloClassHasItsOwnObjectivesSeriesAndBounds) {
  AddWorker("both-0", Role::kBoth);
  options_.model_name = "m";
  options_.slo_classes = {{.name = "chat", .target = {60'000, 60'000}},
                          {.name = "batch", .target = {0.001, 321}}};
  StartAndWait();
  RoutedRequest request = MakeRequest("Once upon a time", 2);
  request.slo.slo_class = "chat";
  ExpectWholeAnswer(request, *Submit(request));
  request.slo.slo_class = "batch";
  ExpectWholeAnswer(request, *Submit(request));
  request.slo.ttft_ms = 60'000;
  ExpectWholeAnswer(request, *Submit(request));
  ASSERT_TRUE(router_->WaitUntilIdle(kWait));
  const std::string text = metrics_.Render();
  for (const char* series :
       {"result=\"good\",slo_class=\"chat\"} 1", "result=\"good\",slo_class=\"batch\"} 1",
        "result=\"good\",slo_class=\"default\"} 0", "result=\"ttft_miss\",slo_class=\"batch\"} 1",
        "baton_slo_threshold_seconds{metric=\"tpot\",slo_class=\"batch\"} 0.321",
        "le=\"0.321\"}"}) {
    EXPECT_THAT(text, HasSubstr(series));
  }
}

TEST(SloConfig, ReadsClassesAndNamesWhatIsWrong) {
  const auto classes = ParseSloClasses({"name=chat;ttft_ms=500;tpot_ms=50;weight=2",
                                        "name=batch; ttft_ms=6e4;tpot_ms=9;shed_order=3"});
  ASSERT_TRUE(classes.ok()) << classes.status();
  ASSERT_EQ(classes->size(), 2u);
  EXPECT_EQ((*classes)[0].name, "chat");
  EXPECT_EQ((*classes)[0].target.ttft_ms, 500);
  EXPECT_EQ((*classes)[0].weight, 2);
  EXPECT_EQ((*classes)[1].shed_order, 3);
  const auto message = [](const std::vector<std::string>& entries) {
    return ParseSloClasses(entries).status().ToString();
  };
  EXPECT_THAT(message({"ttft_ms=1;tpot_ms=1"}), HasSubstr("needs a name"));
  EXPECT_THAT(message({"name=a b;ttft_ms=1;tpot_ms=1"}), HasSubstr("needs a name"));
  EXPECT_THAT(message({"name=a;ttft_ms=0;tpot_ms=1"}), HasSubstr("a.ttft_ms is \"0\""));
  EXPECT_THAT(message({"name=a;ttft_ms=1"}), HasSubstr("a.tpot_ms is \"\""));
  EXPECT_THAT(message({"name=a;ttft_ms=1;tpot_ms=nan"}), HasSubstr("from 0.1 to"));
  EXPECT_THAT(message({"name=a;ttftms=1;tpot_ms=1"}), HasSubstr("did you mean \"ttft_ms\""));
  EXPECT_THAT(message({"name=a;ttft_ms=1;tpot_ms=1", "name=a;ttft_ms=1;tpot_ms=1"}),
              HasSubstr("twice"));
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
