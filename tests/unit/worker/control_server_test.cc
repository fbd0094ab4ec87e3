// Sessions at their edges, with a sink that the test holds in its hands.
#include "worker/control_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "common/check.h"
#include "tests/unit/worker/session_client.h"

namespace baton {
namespace {

class RecordingSink final : public SessionSink {
 public:
  void OnSessionStart(SessionId session) override {
    if (started) started(session);
    if (while_starting) while_starting();
    Note("start");
  }
  bool OnCommand(SessionId, WorkerCommand) override {
    Note("command");
    return true;
  }
  void OnSessionEnd(SessionId) override { Note("end"); }

  std::vector<std::string> calls() const {
    absl::MutexLock lock(&mutex_);
    return calls_;
  }

  std::function<void()> while_starting;
  std::function<void(SessionId)> started;

 private:
  void Note(const char* call) {
    absl::MutexLock lock(&mutex_);
    calls_.emplace_back(call);
  }

  mutable absl::Mutex mutex_;
  std::vector<std::string> calls_ ABSL_GUARDED_BY(mutex_);
};

class ControlServerTest : public testing::Test {
 protected:
  ControlServerTest() { Start({}); }
  void Start(const ControlServerOptions& options) {
    auto started = ControlServer::Start(options, sink_, clock_, log_);
    BATON_CHECK(started.ok()) << started.status().ToString();
    server_ = *std::move(started);
    server_->SetReady(
        {.worker_id = "worker", .boot = BootId(1), .model = {.fingerprint = 0xbadc0de}});
  }

  const MonotonicClock clock_;
  Logger log_{"test", LogLevel::kError, LogFormat::kText};
  RecordingSink sink_;
  std::unique_ptr<ControlServer> server_;
};

TEST_F(ControlServerTest, TellsTheSinkOfEachSessionOnce) {
  {
    SessionClient client(server_->port());
    ASSERT_TRUE(client.Hello("router", 1));
    client.Close();
    EXPECT_TRUE(client.End().ok());
  }
  server_.reset();
  EXPECT_THAT(sink_.calls(), testing::ElementsAre("start", "end"));
}

TEST_F(ControlServerTest, ASessionThatEndsWhileTheSinkLearnsOfItIsToldInOrder) {
  sink_.while_starting = [&] { server_->Close(absl::UnavailableError("drained")); };
  SessionClient client(server_->port());
  (void)client.Hello("router", 1);
  EXPECT_EQ(client.End().error_message(), "drained");
  server_.reset();
  EXPECT_THAT(sink_.calls(), testing::ElementsAre("start", "end"));
}

// A worker that has drained says its last tokens and goes.
TEST_F(ControlServerTest, WhatWasSentBeforeTheEndArrives) {
  constexpr int kReplies = 3000;
  Start({.end_grace = absl::Seconds(30)});  // not a test of how fast this machine is
  SessionId session{};
  absl::Notification started;
  sink_.started = [&](SessionId id) {
    session = id;
    started.Notify();
  };
  SessionClient client(server_->port());
  ASSERT_TRUE(client.Hello("router", 1));
  started.WaitForNotification();
  for (int i = 0; i < kReplies; ++i) {
    server_->Send(session, {RequestKey{RequestId(1), 1},
                            RefusedReply{RefuseReason::kInvalid, std::string(500, 'x')}});
  }
  server_.reset();
  EXPECT_EQ(client.End().error_message(), "the worker stops");
  EXPECT_EQ(client.Messages().size(), kReplies + size_t{1});  // and the Welcome
}

}  // namespace
}  // namespace baton
