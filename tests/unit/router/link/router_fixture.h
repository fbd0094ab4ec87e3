// The router proper with workers in this process, and a sink that records what a client would hear.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "router/completion_service.h"
#include "router/link/start_router.h"
#include "tests/unit/router/fake_tokenizer.h"
#include "tests/unit/router/link/fake_worker.h"

namespace baton::router {

inline constexpr absl::Duration kWait = absl::Seconds(20);

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

}  // namespace baton::router
