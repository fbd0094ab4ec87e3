// Sessions at their edges, with a sink that the test holds in its hands.
#include "worker/control_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/synchronization/mutex.h"
#include "common/check.h"
#include "tests/unit/worker/session_client.h"

namespace baton {
namespace {

class RecordingSink final : public SessionSink {
 public:
  void OnSessionStart(SessionId) override {
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
  ControlServerTest() {
    auto started = ControlServer::Start({}, sink_, clock_, log_);
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

}  // namespace
}  // namespace baton
