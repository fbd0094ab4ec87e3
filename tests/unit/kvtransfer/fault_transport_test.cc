// The fault decorator does what its rates say, and whole handoffs survive it or fail cleanly.
#include "kvtransfer/transport/fault_transport.h"

#include <gtest/gtest.h>

#include "tests/unit/kvtransfer/handoff_fixture.h"

namespace baton {
namespace {

using testing::CountOf;
using testing::EventLog;
using testing::Key;
using testing::TestPool;

struct End final : ConnectionObserver {
  void OnMessage(Connection&, std::span<const std::byte>,
                 std::unique_ptr<IncomingPayload> payload) override {
    ++messages;
    if (payload == nullptr) return;
    landed.assign(payload->length_bytes(), std::byte{0});
    const MemorySpan span{landed.data(), landed.size()};
    payload->Accept(std::span(&span, 1), [this](absl::Status status) { accepted += status.ok(); });
  }
  void OnDisconnect(Connection&, absl::Status) override { ++disconnects; }
  std::unique_ptr<Connection> connection;
  std::vector<std::byte> landed;
  int messages = 0;
  int accepted = 0;
  int disconnects = 0;
};

// One payload sent under `rates`, and what came of it after many rounds.
struct Outcome {
  int done = 0;
  absl::Status status;
  End here;
  End there;
  int rounds_until_message = -1;
};
void SendOne(FaultRates rates, Outcome& outcome) {
  auto loopback = MakeLoopbackFactory(MakeLoopbackHub());
  auto factory = MakeFaultFactory(*loopback, rates, 7);
  auto here = factory->Create().value();
  auto there = factory->Create().value();
  const PeerAddress address = there
                                  ->Listen("h", 0,
                                           [&](std::unique_ptr<Connection> connection) {
                                             outcome.there.connection = std::move(connection);
                                             return &outcome.there;
                                           })
                                  .value();
  outcome.here.connection = here->Connect(address, &outcome.here).value();
  std::vector<std::byte> payload(1000, std::byte{0x42});
  const MemorySpan span{payload.data(), payload.size()};
  const std::byte header[] = {std::byte{1}};
  outcome.here.connection->Send(header, std::span(&span, 1), [&](absl::Status status) {
    ++outcome.done;
    outcome.status = status;
  });
  for (int round = 0; round < 1000; ++round) {
    here->Progress();
    there->Progress();
    if (outcome.there.messages > 0 && outcome.rounds_until_message < 0) {
      outcome.rounds_until_message = round;
    }
  }
  outcome.here.connection.reset();
  outcome.there.connection.reset();
}

TEST(FaultTransport, WithoutFaultsAPayloadArrivesOnce) {
  Outcome outcome;
  SendOne({}, outcome);
  EXPECT_EQ(outcome.done, 1);
  EXPECT_EQ(outcome.there.messages, 1);
  EXPECT_EQ(outcome.there.landed, std::vector<std::byte>(1000, std::byte{0x42}));
}

TEST(FaultTransport, ADroppedMessageIsCalledASuccess) {
  Outcome outcome;
  SendOne({.drop_percent = 100}, outcome);
  EXPECT_EQ(outcome.done, 1);
  EXPECT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.there.messages, 0);
}

TEST(FaultTransport, ADelayedMessageComesLater) {
  Outcome outcome;
  SendOne({.delay_percent = 100, .max_delay_rounds = 500}, outcome);
  EXPECT_EQ(outcome.done, 1);
  EXPECT_EQ(outcome.there.messages, 1);
  EXPECT_GT(outcome.rounds_until_message, 5);
}

TEST(FaultTransport, ADuplicateArrivesTwiceAndIsDoneOnce) {
  Outcome outcome;
  SendOne({.duplicate_percent = 100}, outcome);
  EXPECT_EQ(outcome.done, 1);
  EXPECT_EQ(outcome.there.messages, 2);
  EXPECT_EQ(outcome.there.accepted, 2);
}

TEST(FaultTransport, ACorruptPayloadDiffersInOneByte) {
  Outcome outcome;
  SendOne({.corrupt_percent = 100}, outcome);
  EXPECT_EQ(outcome.done, 1);
  int different = 0;
  for (const std::byte byte : outcome.there.landed) different += byte != std::byte{0x42};
  EXPECT_EQ(outcome.there.landed.size(), 1000u);
  EXPECT_EQ(different, 1);
}

TEST(FaultTransport, ADisconnectIsSeenByBothAndFailsTheSend) {
  Outcome outcome;
  SendOne({.disconnect_percent = 100}, outcome);
  EXPECT_EQ(outcome.done, 1);
  EXPECT_FALSE(outcome.status.ok());
  EXPECT_EQ(outcome.here.disconnects, 1);
  EXPECT_EQ(outcome.there.disconnects, 1);
}

TEST(FaultTransport, ALateReceiveStillLands) {
  Outcome outcome;
  SendOne({.late_percent = 100, .max_delay_rounds = 500}, outcome);
  EXPECT_EQ(outcome.done, 1);
  EXPECT_EQ(outcome.there.accepted, 1);
}

// Real shells, real threads, real bytes: each handoff is sealed with the right bytes or fails, and
// both sides release.
class FaultyHandoffs : public ::testing::TestWithParam<std::string> {};

TEST_P(FaultyHandoffs, AreSealedWithTheRightBytesOrFailAndAreReleased) {
  const KvLayout layout{.num_layers = 3, .num_kv_heads = 2, .head_dim = 32, .block_size = 16};
  const FaultRates rates{.disconnect_percent = 1,
                         .drop_percent = 1,
                         .delay_percent = 3,
                         .duplicate_percent = 3,
                         .corrupt_percent = 3,
                         .late_percent = 5,
                         .max_delay_rounds = 50};
  constexpr uint64_t kSeed = 11;
  constexpr int kHandoffs = 150;
  constexpr int32_t kBlocks = 4;
  SCOPED_TRACE(::testing::Message() << "seed " << kSeed);
  MonotonicClock clock;
  Logger log("test", LogLevel::kError, LogFormat::kText);
  MetricRegistry metrics;
  TestPool source(layout, kBlocks);
  TestPool landing(layout, kBlocks);
  auto inner = testing::MakeFactory(GetParam());
  ASSERT_NE(inner, nullptr);
  auto factory = MakeFaultFactory(*inner, rates, kSeed);
  EventLog<ReceiverEvent> received;
  EventLog<SenderEvent> sent;
  KvReceiverOptions receiver_options;
  receiver_options.memory = JoinKvRegions({landing.region});
  receiver_options.boot = BootId(1);
  receiver_options.peer_timeout = absl::Milliseconds(150);
  auto receiver =
      KvReceiver::Create(receiver_options, *factory, clock, log, metrics, received.Sink()).value();
  KvSenderOptions sender_options;
  sender_options.memory = JoinKvRegions({source.region});
  sender_options.boot = BootId(2);
  sender_options.peer_timeout = absl::Milliseconds(150);
  auto sender =
      KvSender::Create(sender_options, *factory, clock, log, metrics, sent.Sink()).value();

  const std::vector<BlockId> blocks = testing::Blocks({0, 1, 2, 3});
  int sealed = 0;
  for (int i = 1; i <= kHandoffs; ++i) {
    const RequestKey key = Key(static_cast<uint64_t>(i));
    const auto seed = static_cast<uint8_t>(i);
    for (int32_t layer = 0; layer < layout.num_layers; ++layer) {
      for (const BlockId block : blocks) {
        source.Fill(layer, block, static_cast<uint8_t>(seed + block.value()));
      }
    }
    const absl::Time lease = clock.Now() + absl::Milliseconds(300);
    const Ticket ticket = receiver->Open({.key = key, .blocks = blocks, .lease_deadline = lease});
    sender->Open({key, ticket, receiver->address(), lease});
    for (int32_t layer = 0; layer < layout.num_layers; ++layer) {
      sender->Push(key, layer, 0, {blocks[0], blocks[1]});
      sender->Push(key, layer, 2, {blocks[2], blocks[3]});
    }
    sender->Finish(key, {{i}});
    ASSERT_TRUE(received.WaitFor(2 * static_cast<size_t>(i))) << "handoff " << i;
    ASSERT_TRUE(sent.WaitFor(2 * static_cast<size_t>(i))) << "handoff " << i;
    ASSERT_EQ(CountOf<ReceiverEvent::Released>(received.All(), key), 1);
    ASSERT_EQ(CountOf<SenderEvent::Released>(sent.All(), key), 1);
    if (CountOf<ReceiverEvent::Sealed>(received.All(), key) == 0) {
      ASSERT_EQ(CountOf<SenderEvent::Delivered>(sent.All(), key), 0);
      continue;
    }
    ++sealed;
    for (int32_t layer = 0; layer < layout.num_layers; ++layer) {
      for (const BlockId block : blocks) {
        ASSERT_TRUE(landing.Holds(layer, block, static_cast<uint8_t>(seed + block.value())));
      }
    }
  }
  EXPECT_GT(sealed, kHandoffs / 4);
  EXPECT_LT(sealed, kHandoffs);
}

INSTANTIATE_TEST_SUITE_P(OverTransports, FaultyHandoffs,
                         ::testing::Values("loopback", "tcp", "shm"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace baton
