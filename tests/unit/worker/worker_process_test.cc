// Whole workers in one process, with a toy engine, driven over the Session protocol.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <random>

#include "absl/synchronization/notification.h"
#include "common/check.h"
#include "tests/unit/worker/toy_workers.h"

namespace baton {
namespace {

using testing::HasSubstr;

// The whole answer of one blocking GET to the admin port.
std::string HttpGet(int32_t port, const std::string& path, const std::string& method = "GET",
                    const std::string& headers = "") {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  BATON_CHECK(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  const std::string request =
      method + " " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "Connection: close\r\n\r\n";
  BATON_CHECK(write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[4096];
  for (ssize_t got = 0; (got = read(fd, buffer, sizeof(buffer))) > 0;) {
    answer.append(buffer, static_cast<size_t>(got));
  }
  close(fd);
  return answer;
}

// A port that was free a moment ago.
int32_t FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  socklen_t length = sizeof(address);
  BATON_CHECK(bind(fd, reinterpret_cast<sockaddr*>(&address), length) == 0);
  BATON_CHECK(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  close(fd);
  return ntohs(address.sin_port);
}

// ------------------------------------------------------------------ answers

// Engines that compute on the step thread, and those that do so beside it.
class WorkerAnswers : public testing::TestWithParam<bool> {
 protected:
  static ToyEngineOptions Toy() { return {.on_device = GetParam()}; }
};
INSTANTIATE_TEST_SUITE_P(Engines, WorkerAnswers, testing::Bool(),
                         [](const auto& engine) { return engine.param ? "OnDevice" : "OnHost"; });

TEST_P(WorkerAnswers, AHandoffGivesTheTokensOfASingleSequence) {
  Pair pair(Toy(), Toy());
  std::vector<GenerationSpec> specs;
  for (uint64_t i = 0; i < 40; ++i) {
    specs.push_back(SpecOf(i % 30, 1 + static_cast<int32_t>(i * 7 % 60),
                           1 + static_cast<int32_t>(i * 5 % 20), 1 + static_cast<int32_t>(i % 3)));
  }
  for (size_t i = 0; i < specs.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "request " << i);
    ASSERT_TRUE(pair.Start(100 + i, specs[i]));
    const Transcript transcript = pair.Wait(100 + i, specs[i].num_samples);
    ASSERT_FALSE(transcript.failed) << transcript.failure.DebugString();
    EXPECT_EQ(transcript.tokens, ToyAnswer(specs[i], kMaxLen));
    EXPECT_TRUE(transcript.sealed);
    EXPECT_EQ(transcript.seal.transport(), "loopback");
  }
  pair.ExpectNothingHeld();
  EXPECT_THAT(pair.decode.Metrics(), HasSubstr("baton_kv_blocks{state=\"landing\"} 0"));
}

TEST_P(WorkerAnswers, RoleBothGivesTheTokensOfASingleSequenceInOneBatch) {
  TestWorker worker(WorkerRole::kBoth, Loopback(), Toy());
  SessionClient client(worker.port());
  ASSERT_TRUE(client.Hello("router", 1));
  for (uint64_t i = 0; i < 8; ++i) {
    client.Send(GenerateMessage(1 + i, SpecOf(i, 10, 12, 2)));
  }
  for (uint64_t i = 0; i < 8; ++i) {
    ASSERT_TRUE(client.WaitFor([&](const SessionClient& c) { return Finished({&c}, 1 + i, 2); }));
    EXPECT_EQ(TranscriptOf({&client}, 1 + i, 2).tokens, ToyAnswer(SpecOf(i, 10, 12, 2), kMaxLen));
  }
}

TEST(WorkerOnDevice, TellsWhatCameOfAStepWhileTheNextIsComputed) {
  // A prompt and three steps that decode. When the device begins with one, the tokens of the one
  // before are on their way; with nothing to follow, a step's own are.
  absl::Notification hold;
  std::atomic<int> steps = 0;
  ToyEngineOptions toy{.on_device = true};
  toy.on_step = [&] {
    if (++steps == 3) hold.WaitForNotification();
    return absl::OkStatus();
  };
  TestWorker worker(WorkerRole::kBoth, Loopback(), toy);
  SessionClient client(worker.port());
  ASSERT_TRUE(client.Hello("router", 1));
  client.Send(GenerateMessage(1, SpecOf(1, 5, 4)));
  const auto seen = [&] { return TranscriptOf({&client}, 1, 1).tokens[0].size(); };
  EXPECT_TRUE(client.WaitFor([&](const SessionClient&) { return steps == 3 && seen() == 2; }));
  // And the step is still known to run: it may hang.
  EXPECT_GT(worker.process().StepAge(), absl::ZeroDuration());
  EXPECT_TRUE(client.WaitFor(
      [](const SessionClient& c) { return c.LastStatus().current_step_age_ms() > 0; }));
  hold.Notify();
  EXPECT_TRUE(client.WaitFor([](const SessionClient& c) { return Finished({&c}, 1, 1); }));
  EXPECT_EQ(TranscriptOf({&client}, 1, 1).tokens, ToyAnswer(SpecOf(1, 5, 4), kMaxLen));
}

// A request that comes while steps run ahead of what is known has its turn all the same, and those
// that it joins go on.
TEST(WorkerOnDevice, StepsRunAheadUntilSomebodyComes) {
  absl::Notification came;
  std::atomic<int> steps = 0;
  ToyEngineOptions toy{.on_device = true};
  toy.on_step = [&] {
    if (++steps == 10) came.WaitForNotification();
    return absl::OkStatus();
  };
  TestWorker worker(WorkerRole::kBoth, Loopback(), toy);
  SessionClient client(worker.port());
  ASSERT_TRUE(client.Hello("router", 1));
  client.Send(GenerateMessage(1, SpecOf(1, 5, 60)));
  ASSERT_TRUE(client.WaitFor([&](const SessionClient&) { return steps == 10; }));
  EXPECT_THAT(worker.Metrics(), HasSubstr("baton_steps_ahead_total 7"))
      << "all but the prompt's, the one behind it, and the one that runs";
  client.Send(GenerateMessage(2, SpecOf(2, 5, 60)));
  came.Notify();
  for (const uint64_t id : {1, 2}) {
    ASSERT_TRUE(client.WaitFor([&](const SessionClient& c) { return Finished({&c}, id, 1); }));
    EXPECT_EQ(TranscriptOf({&client}, id, 1).tokens, ToyAnswer(SpecOf(id, 5, 60), kMaxLen));
  }
}

TEST(WorkerOnDevice, TellsWhatCameBeforeTheStepThatBroke) {
  std::atomic<int> steps = 0;
  ToyEngineOptions toy{.on_device = true};
  toy.on_step = [&] {
    return ++steps == 4 ? absl::InternalError("the device fell off the bus") : absl::OkStatus();
  };
  TestWorker worker(WorkerRole::kBoth, Loopback(), toy);
  SessionClient client(worker.port());
  ASSERT_TRUE(client.Hello("router", 1));
  client.Send(GenerateMessage(1, SpecOf(1, 5, 20)));
  ASSERT_TRUE(
      client.WaitFor([](const SessionClient& c) { return TranscriptOf({&c}, 1, 1).failed; }));
  const Transcript transcript = TranscriptOf({&client}, 1, 1);
  EXPECT_EQ(transcript.tokens[0].size(), 3u);
  EXPECT_THAT(transcript.failure.message(), HasSubstr("fell off the bus"));
}

// ------------------------------------------------------------------ endings

class WorkerCancels : public WorkerAnswers {};
INSTANTIATE_TEST_SUITE_P(Engines, WorkerCancels, testing::Bool(),
                         [](const auto& engine) { return engine.param ? "OnDevice" : "OnHost"; });

TEST_P(WorkerCancels, AtRandomMomentsLeaveNothingHeld) {
  const uint64_t seed = 20240611;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  Pair pair(Toy(), Toy());
  int finished = 0;
  for (uint64_t i = 0; i < 100; ++i) {
    const GenerationSpec spec = SpecOf(i, 1 + static_cast<int32_t>(random() % 60), 30);
    pair.to_decode.Send(ReserveMessage(1000 + i, spec));
    const uint64_t moment = random() % 5;
    if (moment > 0) {
      Transcript reserved;
      ASSERT_TRUE(pair.to_decode.WaitFor([&](const SessionClient& c) {
        reserved = TranscriptOf({&c}, 1000 + i, 1);
        return reserved.reserved || reserved.refused;
      }));
      if (reserved.refused) continue;  // earlier ones still hold the room
      pair.to_prefill.Send(PrefillMessage(1000 + i, spec, reserved.reservation,
                                          pair.to_decode.welcome().kv_address()));
    }
    if (moment == 2) {
      pair.to_prefill.WaitFor([&](const SessionClient& c) {
        const Transcript seen = TranscriptOf({&c}, 1000 + i, 1);
        return seen.prefill_done || seen.refused || seen.failed;
      });
    }
    if (moment == 3) pair.Wait(1000 + i, 1);
    if (moment != 4) {  // 4: left to finish
      pair.to_prefill.Send(AbortMessage(1000 + i));
      pair.to_decode.Send(AbortMessage(1000 + i));
    }
    finished += moment >= 3;
  }
  EXPECT_GT(finished, 10);
  pair.ExpectNothingHeld();
}

TEST(WorkerEndings, ADeadSenderEndsTheHandoffAndItsBlocksComeBack) {
  absl::Notification reached, hold;
  ToyEngineOptions toy;
  toy.scheduler.prefill_chunk_tokens = 8;
  toy.on_layer = [&](int32_t layer) {  // layer 0 of the first chunk has been sent
    if (layer != 1 || reached.HasBeenNotified()) return;
    reached.Notify();
    hold.WaitForNotification();
  };
  Pair pair(toy);
  ASSERT_TRUE(pair.Start(1, SpecOf(1, 80, 10)));
  reached.WaitForNotification();
  ASSERT_TRUE(pair.to_decode.WaitFor(
      [](const SessionClient& c) { return c.LastStatus().blocks().landing() == 20; }));
  // The worker dies in the first of ten chunks: it closes its sessions, then stops stepping.
  std::thread killer([&] { pair.prefill.Kill(); });
  EXPECT_EQ(pair.to_prefill.End().error_code(), grpc::StatusCode::UNAVAILABLE);
  hold.Notify();
  killer.join();
  ASSERT_TRUE(pair.to_decode.WaitFor(
      [](const SessionClient& c) { return TranscriptOf({&c}, 1, 1).failed; }));
  EXPECT_EQ(TranscriptOf({&pair.to_decode}, 1, 1).failure.reason(), v1::Failed::PEER_LOST);
  EXPECT_TRUE(pair.to_decode.WaitFor([](const SessionClient& c) { return HoldsNothing(c, 64); }))
      << pair.to_decode.LastStatus().DebugString();
}

TEST(WorkerEndings, ARouterThatClosesItsSessionAbortsItsRequests) {
  Pair pair;
  {
    SessionClient other(pair.decode.port());
    ASSERT_TRUE(other.Hello("other", 1));
    other.Send(ReserveMessage(1, SpecOf(1, 20, 5)));
    ASSERT_TRUE(pair.to_decode.WaitFor(
        [](const SessionClient& c) { return c.LastStatus().blocks().landing() > 0; }));
    other.Close();
    EXPECT_EQ(other.End().error_code(), grpc::StatusCode::OK);
  }
  pair.ExpectNothingHeld();
}

TEST(WorkerEndings, ADrainingWorkerFinishesWhatRunsAndRefusesWhatIsNew) {
  absl::Notification hold;
  ToyEngineOptions toy;
  toy.on_step = [&] {
    hold.WaitForNotification();
    return absl::OkStatus();
  };
  TestWorker worker(WorkerRole::kBoth, Loopback(), toy);
  SessionClient client(worker.port());
  ASSERT_TRUE(client.Hello("router", 1));
  client.Send(GenerateMessage(1, SpecOf(1, 5, 5)));
  ASSERT_TRUE(client.WaitFor(
      [](const SessionClient& c) { return c.LastStatus().current_step_age_ms() > 0; }));
  worker.process().RequestDrain();
  EXPECT_TRUE(absl::IsDeadlineExceeded(worker.process().WaitUntilDone(absl::ZeroDuration())));
  client.Send(GenerateMessage(2, SpecOf(2, 5, 5)));
  hold.Notify();
  ASSERT_TRUE(client.WaitFor([](const SessionClient& c) {
    return Finished({&c}, 1, 1) && TranscriptOf({&c}, 2, 1).refused;
  }));
  EXPECT_EQ(TranscriptOf({&client}, 2, 1).refusal.reason(), v1::Refused::DRAINING);
  EXPECT_TRUE(worker.process().WaitUntilDone(absl::Seconds(20)).ok());
  EXPECT_THAT(HttpGet(worker.process().admin_port(), "/readyz"), HasSubstr("503"));
}

TEST(WorkerEndings, ABrokenEngineFailsWhatIsOpenAndReportsItself) {
  ToyEngineOptions toy;
  toy.on_step = [] { return absl::DataLossError("bits fell out"); };
  TestWorker worker(WorkerRole::kBoth, Loopback(), toy);
  SessionClient client(worker.port());
  ASSERT_TRUE(client.Hello("router", 1));
  client.Send(GenerateMessage(1, SpecOf(1, 5, 5)));
  ASSERT_TRUE(
      client.WaitFor([](const SessionClient& c) { return TranscriptOf({&c}, 1, 1).failed; }));
  const Transcript transcript = TranscriptOf({&client}, 1, 1);
  EXPECT_EQ(transcript.failure.reason(), v1::Failed::INTERNAL);
  EXPECT_THAT(transcript.failure.message(), HasSubstr("bits fell out"));
  EXPECT_TRUE(absl::IsInternal(worker.process().WaitUntilDone(absl::Seconds(20))));
  EXPECT_THAT(HttpGet(worker.process().admin_port(), "/livez"), HasSubstr("503"));
}

TEST(WorkerEndings, ADeviceThatBreaksWithNothingToDoEndsTheWorker) {
  std::atomic<bool> broken{false};
  ToyEngineOptions toy;
  toy.health = [&] {
    return broken ? absl::InternalError("the device fell off the bus") : absl::OkStatus();
  };
  TestWorker worker(WorkerRole::kDecode, Loopback(), toy);
  EXPECT_TRUE(absl::IsDeadlineExceeded(worker.process().WaitUntilDone(absl::ZeroDuration())));
  EXPECT_EQ(worker.process().StepAge(), absl::ZeroDuration());
  broken = true;
  const absl::Status done = worker.process().WaitUntilDone(absl::Seconds(20));
  EXPECT_TRUE(absl::IsInternal(done)) << done;
  EXPECT_THAT(HttpGet(worker.process().admin_port(), "/livez"), HasSubstr("503"));
}

// ------------------------------------------------------------------ liveness and pages

TEST(WorkerLiveness, StatusesGoOnDuringALongStepAndTellItsAge) {
  absl::Notification hold;
  ToyEngineOptions toy;
  toy.on_step = [&] {
    hold.WaitForNotification();
    return absl::OkStatus();
  };
  TestWorker worker(WorkerRole::kBoth, Loopback(), toy);
  SessionClient client(worker.port());
  ASSERT_TRUE(client.Hello("router", 1));
  client.Send(GenerateMessage(1, SpecOf(1, 5, 5)));
  EXPECT_TRUE(client.WaitFor(
      [](const SessionClient& c) { return c.LastStatus().current_step_age_ms() > 200; }));
  EXPECT_EQ(client.LastStatus().steps_completed(), 0u);
  EXPECT_GT(worker.process().StepAge(), absl::Milliseconds(200));
  hold.Notify();
  EXPECT_TRUE(client.WaitFor([](const SessionClient& c) { return Finished({&c}, 1, 1); }));
}

TEST(WorkerLiveness, ReservesAndAbortsDoNotWaitForALongStep) {
  // One step of very many layers, each held a little until the answers have come.
  constexpr int32_t kLayers = 4000;
  absl::Notification reached, answered;
  std::atomic<bool> step_ended{false};
  ToyEngineOptions toy;
  toy.num_layers = kLayers;
  toy.on_layer = [&](int32_t layer) {
    if (layer == 0 && !reached.HasBeenNotified()) reached.Notify();
    answered.WaitForNotificationWithTimeout(absl::Milliseconds(5));
    if (layer == kLayers - 1) step_ended = true;
  };
  TestWorker worker(WorkerRole::kBoth, Loopback(), toy);
  SessionClient client(worker.port());
  ASSERT_TRUE(client.Hello("router", 1));
  client.Send(GenerateMessage(1, SpecOf(1, 5, 1)));
  reached.WaitForNotification();
  client.Send(ReserveMessage(2, SpecOf(2, 8, 5)));
  client.Send(AbortMessage(1));
  EXPECT_TRUE(client.WaitFor([](const SessionClient& c) {
    return TranscriptOf({&c}, 2, 1).reserved && TranscriptOf({&c}, 1, 1).failed;
  }));
  EXPECT_FALSE(step_ended);
  answered.Notify();
}

TEST(WorkerPages, ReadinessFollowsLoading) {
  absl::Notification loading, hold;
  WorkerOptions options = TestWorker::OptionsOf(WorkerRole::kBoth);
  options.admin_port = FreePort();
  options.control_port = FreePort();
  std::unique_ptr<TestWorker> worker;
  std::thread starter([&] {
    worker = std::make_unique<TestWorker>(
        options, Loopback(), [&](const EngineOptions&, const LoadProgressFn& progress) {
          progress(30, 120);
          loading.Notify();
          hold.WaitForNotification();
          return absl::StatusOr<std::unique_ptr<Engine>>(MakeToyEngine({}));
        });
  });
  loading.WaitForNotification();
  EXPECT_THAT(HttpGet(options.admin_port, "/readyz"),
              AllOf(HasSubstr("503"), HasSubstr("loading 25%")));
  EXPECT_THAT(HttpGet(options.admin_port, "/livez"), HasSubstr("200 OK"));
  {
    SessionClient early(options.control_port);
    EXPECT_FALSE(early.Hello("router", 1));
    EXPECT_EQ(early.End().error_code(), grpc::StatusCode::UNAVAILABLE);
  }
  hold.Notify();
  starter.join();
  const int32_t admin = worker->process().admin_port();
  EXPECT_THAT(HttpGet(admin, "/readyz"), HasSubstr("200 OK"));
  EXPECT_THAT(HttpGet(admin, "/version"), HasSubstr("{\"version\": \"test\"}"));
  EXPECT_THAT(HttpGet(admin, "/metrics?x=1"), HasSubstr("baton_requests_running 0"));
  EXPECT_THAT(HttpGet(admin, "/metrics"), HasSubstr("baton_kv_blocks{state=\"quarantined\"} 0"));
  EXPECT_THAT(HttpGet(admin, "/nothing"), HasSubstr("404"));
  EXPECT_THAT(HttpGet(admin, "/livez", "POST"), HasSubstr("405"));
  EXPECT_THAT(HttpGet(admin, "/" + std::string(20000, 'x')), HasSubstr("413"));
  EXPECT_THAT(HttpGet(admin, "/livez", "HEAD"), HasSubstr("200 OK"));
  // A body is refused unread, whatever it would be.
  for (const char* header : {"Transfer-Encoding: chunked\r\n", "Content-Length: 9000000000\r\n"}) {
    EXPECT_THAT(HttpGet(admin, "/livez", "GET", header), HasSubstr("413")) << header;
  }
}

TEST(WorkerPages, APortInUseIsAnErrorThatNamesIt) {
  TestWorker worker(WorkerRole::kBoth, Loopback());
  const MonotonicClock clock;
  Logger log("second", LogLevel::kError, LogFormat::kText);
  MetricRegistry metrics;
  WorkerOptions options = TestWorker::OptionsOf(WorkerRole::kBoth);
  options.control_port = worker.port();
  const auto start = [&] {
    return StartWorker(options, {.load_engine = nullptr, .make_role = nullptr},
                       {clock, log, metrics})
        .status();
  };
  absl::Status status = start();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(worker.port())));
  options.admin_port = worker.process().admin_port();
  status = start();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("Address already in use"));
}

}  // namespace
}  // namespace baton
