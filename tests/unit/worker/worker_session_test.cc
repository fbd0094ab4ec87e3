// Sessions of routers with whole workers: handshake, epochs, leases, bounds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/synchronization/notification.h"
#include "tests/unit/worker/toy_workers.h"

namespace baton {
namespace {

using testing::HasSubstr;

TEST(WorkerSession, WelcomeTellsWhatTheWorkerIs) {
  TestWorker worker(WorkerRole::kDecode, Loopback());
  SessionClient client(worker.port());
  ASSERT_TRUE(client.Hello("router", 1, 0, /*fingerprint=*/0xbadc0de));
  const v1::Welcome welcome = client.welcome();
  EXPECT_EQ(welcome.worker_id(), "decode");
  EXPECT_EQ(welcome.boot_id(), worker.process().boot_id().value());
  EXPECT_EQ(welcome.role(), v1::WORKER_ROLE_DECODE);
  EXPECT_EQ(welcome.model_name(), "toy");
  EXPECT_EQ(welcome.block_size(), kToyBlockSize);
  EXPECT_EQ(welcome.total_blocks(), 64);
  EXPECT_EQ(welcome.max_model_len(), kMaxLen);
  EXPECT_GT(welcome.kv_address().port(), 0);
  EXPECT_TRUE(client.WaitFor([](const SessionClient& c) { return c.StatusCount() >= 3; }));
  EXPECT_EQ(client.LastStatus().blocks().free(), 64);
}

TEST(WorkerSession, TellsTheStepModelThatItMeasuredAndHowTrueItIs) {
  const StepModel model{.prefill_base_ms = 1,
                        .prefill_token_ms = 0.5,
                        .prefill_pair_ms = 0.25,
                        .decode_base_ms = 2,
                        .decode_row_ms = 1000,
                        .decode_context_ms = 0.125,
                        .profiled_prefill_tokens = 64,
                        .profiled_decode_rows = 8,
                        .profiled_context_tokens = 512};
  TestWorker worker(WorkerRole::kBoth, Loopback(), {.step_model = model});
  SessionClient client(worker.port());
  ASSERT_TRUE(client.Hello("router", 1));
  const v1::StepModel told = client.welcome().step_model();
  EXPECT_EQ(told.prefill_base_ms(), 1);
  EXPECT_EQ(told.prefill_token_ms(), 0.5);
  EXPECT_EQ(told.prefill_pair_ms(), 0.25);
  EXPECT_EQ(told.decode_base_ms(), 2);
  EXPECT_EQ(told.decode_row_ms(), 1000);
  EXPECT_EQ(told.decode_context_ms(), 0.125);
  EXPECT_EQ(told.profiled_prefill_tokens(), 64);
  EXPECT_EQ(told.profiled_decode_rows(), 8);
  EXPECT_EQ(told.profiled_context_tokens(), 512);
  // The toy engine is much faster than the second that a row should take.
  client.Send(GenerateMessage(1, SpecOf(4, 10, 20)));
  EXPECT_TRUE(client.WaitFor([](const SessionClient& c) {
    const v1::WorkerStatus status = c.LastStatus();
    return Finished({&c}, 1, 1) && status.steps_completed() > 0 && status.decode_factors(0) < 1 &&
           status.step_error_ratio() > 1;
  })) << client.LastStatus().DebugString();
  EXPECT_THAT(worker.Metrics(),
              testing::AllOf(HasSubstr("baton_step_seconds_count{kind=\"decode\"}"),
                             HasSubstr("baton_step_predicted_seconds_total{kind=\"mixed\"} 0"),
                             HasSubstr("baton_step_model_error_ratio")));
}

TEST(WorkerSession, AWorkerThatCouldNotCalibrateServesWithoutAStepModel) {
  TestWorker worker(WorkerRole::kBoth, Loopback());
  SessionClient client(worker.port());
  ASSERT_TRUE(client.Hello("router", 1));
  EXPECT_FALSE(client.welcome().has_step_model());
  client.Send(GenerateMessage(1, SpecOf(4, 10, 5)));
  // A status after the answer's steps: the answer itself may be there before any status is.
  ASSERT_TRUE(client.WaitFor([](const SessionClient& c) {
    return Finished({&c}, 1, 1) && c.LastStatus().steps_completed() > 0;
  }));
  EXPECT_EQ(client.LastStatus().decode_factors(0), 1);
}

TEST(WorkerSession, TheTokensOfAStepGoTogetherAsFarAsTheRouterTakesThat) {
  constexpr int32_t kRequests = 6;
  for (const int32_t max_batch : {0, 4}) {
    absl::Notification hold;
    ToyEngineOptions toy;
    toy.on_step = [&] {
      hold.WaitForNotification();
      return absl::OkStatus();
    };
    TestWorker worker(WorkerRole::kBoth, Loopback(), toy);
    SessionClient client(worker.port());
    client.set_max_batch_messages(max_batch);
    ASSERT_TRUE(client.Hello("router", 1));
    for (int32_t i = 1; i <= kRequests; ++i) {
      client.Send(GenerateMessage(static_cast<uint64_t>(i), SpecOf(1, 5, 10)));
    }
    ASSERT_TRUE(client.WaitFor(
        [](const SessionClient& c) { return c.LastStatus().current_step_age_ms() > 0; }));
    hold.Notify();
    EXPECT_TRUE(client.WaitFor([](const SessionClient& c) {
      for (int32_t i = 1; i <= kRequests; ++i) {
        if (!Finished({&c}, static_cast<uint64_t>(i), 1)) return false;
      }
      return true;
    }));
    // A step of six rows fills it.
    EXPECT_EQ(client.LargestBatch(), max_batch);
    const auto expected = ToyAnswer(SpecOf(1, 5, 10), kMaxLen);
    for (int32_t i = 1; i <= kRequests; ++i) {
      EXPECT_EQ(TranscriptOf({&client}, static_cast<uint64_t>(i), 1).tokens, expected) << i;
    }
  }
}

TEST(WorkerSession, ARouterOfAnotherModelIsRefusedAtTheHandshake) {
  TestWorker worker(WorkerRole::kBoth, Loopback());
  SessionClient client(worker.port());
  EXPECT_FALSE(client.Hello("router", 1, 0, /*fingerprint=*/1));
  const grpc::Status end = client.End();
  EXPECT_EQ(end.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(end.error_message(), HasSubstr("0000000000000001"));
  EXPECT_THAT(end.error_message(), HasSubstr("000000000badc0de"));
}

TEST(WorkerSession, NothingIsTakenBeforeHello) {
  TestWorker worker(WorkerRole::kBoth, Loopback());
  SessionClient client(worker.port());
  client.Send(GenerateMessage(1, SpecOf(1, 5, 5)));
  EXPECT_EQ(client.End().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST(WorkerSession, ANewerSessionOfTheRouterEndsTheOlderOneAndItsRequests) {
  absl::Notification hold;
  ToyEngineOptions toy;
  toy.on_step = [&] {
    hold.WaitForNotification();
    return absl::OkStatus();
  };
  TestWorker worker(WorkerRole::kBoth, Loopback(), toy);
  SessionClient older(worker.port());
  ASSERT_TRUE(older.Hello("router", 1));
  older.Send(GenerateMessage(1, SpecOf(1, 5, 200)));
  ASSERT_TRUE(older.WaitFor(
      [](const SessionClient& c) { return c.LastStatus().current_step_age_ms() > 0; }));
  SessionClient newer(worker.port());
  ASSERT_TRUE(newer.Hello("router", 2));
  EXPECT_EQ(older.End().error_code(), grpc::StatusCode::ABORTED);
  hold.Notify();
  EXPECT_TRUE(newer.WaitFor([](const SessionClient& c) {
    return c.LastStatus().steps_completed() > 0 && HoldsNothing(c, 64);
  }));
  SessionClient stale(worker.port());
  EXPECT_FALSE(stale.Hello("router", 1));
  EXPECT_EQ(stale.End().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST(WorkerSession, ALeaseWithoutHeartbeatsEndsAndFreesEverything) {
  Pair pair;
  SessionClient quiet(pair.decode.port());
  ASSERT_TRUE(quiet.Hello("quiet", 1, /*lease_ms=*/300));
  quiet.Send(ReserveMessage(1, SpecOf(1, 20, 5)));
  ASSERT_TRUE(pair.to_decode.WaitFor(
      [](const SessionClient& c) { return c.LastStatus().blocks().landing() > 0; }));
  EXPECT_NE(quiet.End().error_code(), grpc::StatusCode::OK);
  pair.ExpectNothingHeld();
}

TEST(WorkerSession, HeartbeatsKeepALeaseAlive) {
  TestWorker worker(WorkerRole::kBoth, Loopback());
  SessionClient client(worker.port());
  ASSERT_TRUE(client.Hello("router", 1, /*lease_ms=*/1500));
  // Each status is one tick of the worker's clock; together they last twice the lease.
  for (size_t ticks = 0; ticks < 60; ++ticks) {
    ASSERT_TRUE(client.WaitFor([&](const SessionClient& c) { return c.StatusCount() > ticks; }));
    client.Heartbeat();
  }
  client.Send(GenerateMessage(1, SpecOf(1, 5, 5)));
  EXPECT_TRUE(client.WaitFor([](const SessionClient& c) { return Finished({&c}, 1, 1); }));
}

TEST(WorkerSession, InvalidRequestsAreRefusedAndTheSessionGoesOn) {
  TestWorker worker(WorkerRole::kBoth, Loopback());
  SessionClient client(worker.port());
  ASSERT_TRUE(client.Hello("router", 1));
  GenerationSpec bad = SpecOf(1, 5, 5);
  bad.tokens[0] = kToyVocab;
  client.Send(GenerateMessage(1, bad));
  client.Send(GenerateMessage(2, SpecOf(2, 5, 5)));
  ASSERT_TRUE(client.WaitFor([](const SessionClient& c) { return Finished({&c}, 2, 1); }));
  const Transcript refused = TranscriptOf({&client}, 1, 1);
  EXPECT_TRUE(refused.refused);
  EXPECT_EQ(refused.refusal.reason(), v1::Refused::INVALID);
  EXPECT_THAT(refused.refusal.message(), HasSubstr("token 1000"));
}

TEST(WorkerSession, ARouterThatReadsNothingLosesItsSession) {
  WorkerOptions options = TestWorker::OptionsOf(WorkerRole::kBoth);
  options.max_outgoing_messages = 16;
  TestWorker worker(options, Loopback(), [](const EngineOptions&, const LoadProgressFn&) {
    return absl::StatusOr<std::unique_ptr<Engine>>(MakeToyEngine({}));
  });
  SessionClient watcher(worker.port());
  ASSERT_TRUE(watcher.Hello("watcher", 1));
  // A stream that is written and never read: flow control stops the worker's writes.
  auto stub = v1::Worker::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(worker.port()),
                                                      grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  auto stream = stub->Session(&context);
  v1::RouterMessage hello;
  hello.mutable_hello()->set_router_id("deaf");
  hello.mutable_hello()->set_protocol_version(1);
  stream->Write(hello);
  // An invalid request is answered with its message: many of them fill every buffer on the way.
  v1::RouterMessage bad = GenerateMessage(1, SpecOf(1, 5, 5));
  bad.mutable_generate()->mutable_spec()->set_num_samples(-1);
  int written = 0;
  while (written < 2000000 && stream->Write(bad)) ++written;
  EXPECT_LT(written, 2000000) << "the session never ended";
  context.TryCancel();
  watcher.Send(GenerateMessage(2, SpecOf(2, 5, 5)));
  EXPECT_TRUE(watcher.WaitFor([](const SessionClient& c) { return Finished({&c}, 2, 1); }));
}

}  // namespace
}  // namespace baton
