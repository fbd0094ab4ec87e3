// KvSender and KvReceiver in one process, over every transport, with pools of the host and of
// devices.
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <tuple>

#include "kvtransfer/block_access.h"
#include "tests/unit/kvtransfer/device_pool.h"
#include "tests/unit/kvtransfer/handoff_fixture.h"

namespace baton {
namespace {

using testing::Blocks;
using testing::CountOf;
using testing::DevicePool;
using testing::EventLog;
using testing::Key;
using testing::TestPool;

const KvLayout kLayout{.num_layers = 4, .num_kv_heads = 2, .head_dim = 16, .block_size = 16};

// kDirect: a device whose memory the transport reaches.
enum class Place { kHost, kDevice, kDirect };
std::string NameOf(Place place) {
  if (place == Place::kHost) return "host";
  return place == Place::kDevice ? "device" : "direct";
}

// Transport, where the sender's pool is, where the receiver's.
class KvShellsTest : public ::testing::TestWithParam<std::tuple<std::string, Place, Place>> {
 protected:
  void SetUp() override {
    factory_ = testing::MakeFactory(transport());
    ASSERT_NE(factory_, nullptr);
    StartReceiver();
    StartSender(1);
  }
  void TearDown() override {
    sender_.reset();
    receiver_.reset();
  }

  static const std::string& transport() { return std::get<0>(GetParam()); }
  static Place From() { return std::get<1>(GetParam()); }
  static Place To() { return std::get<2>(GetParam()); }
  static bool LandsOnDevice() { return To() != Place::kHost; }
  static KvMemory MemoryOf(Place place, const TestPool& pool, DevicePool& device) {
    if (place == Place::kHost) return JoinKvRegions({pool.region});
    return device.memory(place == Place::kDirect);
  }

  void StartReceiver() {
    KvReceiverOptions options;
    options.memory = MemoryOf(To(), landing_, landing_device_);
    options.copies = &landing_copies_;
    options.model_fingerprint = 1;
    options.boot = BootId(77);
    options.worker_name = "decode-0";
    auto receiver =
        KvReceiver::Create(options, *factory_, clock_, log_, metrics_, [this](ReceiverEvent event) {
          if (std::holds_alternative<ReceiverEvent::Released>(event.what)) {
            copies_at_release_ = landing_device_.under_way();
          }
          received_.Add(std::move(event));
        });
    ASSERT_TRUE(receiver.ok()) << receiver.status();
    receiver_ = *std::move(receiver);
  }
  void StartSender(uint64_t model_fingerprint) {
    KvSenderOptions options;
    options.memory = MemoryOf(From(), source_, source_device_);
    options.copies = &source_copies_;
    options.model_fingerprint = model_fingerprint;
    options.boot = BootId(78);
    options.worker_name = "prefill-0";
    auto sender = KvSender::Create(options, *factory_, clock_, log_, metrics_, sent_.Sink());
    ASSERT_TRUE(sender.ok()) << sender.status();
    sender_ = *std::move(sender);
  }

  Ticket OpenLanding(RequestKey key, std::vector<BlockId> blocks) {
    LandingSpec spec;
    spec.key = key;
    spec.first_block = 2;
    spec.blocks = std::move(blocks);
    spec.lease_deadline = clock_.Now() + absl::Seconds(30);
    return receiver_->Open(spec);
  }
  void OpenSend(RequestKey key, const Ticket& ticket) {
    sender_->Open({key, ticket, receiver_->address(), clock_.Now() + absl::Seconds(30)});
  }

  // Counted as copied by way of such a place.
  int64_t CopiedBytes(Place place, const std::string& side) {
    const char* name = place == Place::kDirect ? "kv_direct_bytes_total" : "kv_staged_bytes_total";
    return static_cast<int64_t>(metrics_.AddCounter(name, "", {{"side", side}})->Value());
  }

  MonotonicClock clock_;
  Logger log_{"test", LogLevel::kError, LogFormat::kText};
  MetricRegistry metrics_;
  TestPool source_{kLayout, 32};
  TestPool landing_{kLayout, 32};
  DevicePool source_device_{source_};
  DevicePool landing_device_{landing_};
  KvCopyWatch source_copies_;
  KvCopyWatch landing_copies_;
  std::unique_ptr<TransportFactory> factory_;
  EventLog<ReceiverEvent> received_;
  EventLog<SenderEvent> sent_;
  std::atomic<int> copies_at_release_ = 0;  // under way when blocks were last released
  std::unique_ptr<KvReceiver> receiver_;
  std::unique_ptr<KvSender> sender_;
};

TEST_P(KvShellsTest, MovesAHandoffBetweenScatteredBlocks) {
  const std::vector<BlockId> from = Blocks({3, 4, 9, 1});
  const std::vector<BlockId> to = Blocks({7, 20, 21, 2});
  const Ticket ticket = OpenLanding(Key(1), to);
  OpenSend(Key(1), ticket);
  for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
    for (size_t i = 0; i < from.size(); ++i) {
      source_.Fill(layer, from[i], static_cast<uint8_t>(i + 1));
    }
    sender_->Push(Key(1), layer, 2, {from[0], from[1]});
    sender_->Push(Key(1), layer, 4, {from[2], from[3]});
  }
  sender_->Finish(Key(1), {{42}});
  ASSERT_TRUE(received_.WaitFor(2));
  ASSERT_TRUE(sent_.WaitFor(2));

  const auto received = received_.All();
  ASSERT_TRUE(std::holds_alternative<ReceiverEvent::Sealed>(received[0].what));
  const auto& sealed = std::get<ReceiverEvent::Sealed>(received[0].what);
  EXPECT_EQ(sealed.tail.first_tokens, std::vector<TokenId>{42});
  EXPECT_EQ(sealed.stats.bytes, 4 * 4 * kLayout.BlockBytes());
  EXPECT_EQ(sealed.stats.transport, transport());
  EXPECT_EQ(CountOf<ReceiverEvent::Released>(received, Key(1)), 1);
  EXPECT_EQ(CountOf<SenderEvent::Delivered>(sent_.All(), Key(1)), 1);
  EXPECT_EQ(CountOf<SenderEvent::Released>(sent_.All(), Key(1)), 1);
  for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
    for (size_t i = 0; i < to.size(); ++i) {
      EXPECT_TRUE(landing_.Holds(layer, to[i], static_cast<uint8_t>(i + 1)))
          << "layer " << layer << " block " << i;
    }
  }
}

TEST_P(KvShellsTest, MovesManyHandoffsOverOneConnection) {
  for (uint64_t request = 1; request <= 8; ++request) {
    const auto base = static_cast<int32_t>(request - 1) * 4;
    const auto blocks = Blocks({base, base + 1, base + 2, base + 3});
    OpenSend(Key(request), OpenLanding(Key(request), blocks));
    for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
      for (const BlockId block : blocks) {
        source_.Fill(layer, block, static_cast<uint8_t>(block.value() + 3));
      }
      sender_->Push(Key(request), layer, 2, blocks);
    }
    sender_->Finish(Key(request), {{static_cast<TokenId>(request)}});
  }
  ASSERT_TRUE(received_.WaitFor(16));
  ASSERT_TRUE(sent_.WaitFor(16));
  for (uint64_t request = 1; request <= 8; ++request) {
    EXPECT_EQ(CountOf<ReceiverEvent::Sealed>(received_.All(), Key(request)), 1);
    EXPECT_EQ(CountOf<SenderEvent::Delivered>(sent_.All(), Key(request)), 1);
  }
  for (int32_t block = 0; block < 32; ++block) {
    EXPECT_TRUE(landing_.Holds(3, BlockId(block), static_cast<uint8_t>(block + 3)));
  }
}

TEST_P(KvShellsTest, MovesAHandoffWithoutBlocks) {
  OpenSend(Key(1), OpenLanding(Key(1), {}));
  sender_->Finish(Key(1), {{5}});
  ASSERT_TRUE(received_.WaitFor(2));
  ASSERT_TRUE(sent_.WaitFor(2));
  EXPECT_EQ(CountOf<ReceiverEvent::Sealed>(received_.All(), Key(1)), 1);
  EXPECT_EQ(CountOf<SenderEvent::Delivered>(sent_.All(), Key(1)), 1);
}

TEST_P(KvShellsTest, SenderAbortFailsTheReceiver) {
  OpenSend(Key(1), OpenLanding(Key(1), Blocks({1, 2})));
  sender_->Push(Key(1), 0, 2, Blocks({1}));
  sender_->Abort(Key(1));
  sender_->Abort(Key(1));
  ASSERT_TRUE(received_.WaitFor(2));
  ASSERT_TRUE(sent_.WaitFor(2));
  EXPECT_EQ(CountOf<ReceiverEvent::Failed>(received_.All(), Key(1)), 1);
  EXPECT_EQ(CountOf<ReceiverEvent::Released>(received_.All(), Key(1)), 1);
  EXPECT_EQ(CountOf<SenderEvent::Failed>(sent_.All(), Key(1)), 1);
  EXPECT_EQ(CountOf<SenderEvent::Released>(sent_.All(), Key(1)), 1);
}

TEST_P(KvShellsTest, ReceiverAbortFailsTheSender) {
  OpenSend(Key(1), OpenLanding(Key(1), Blocks({1, 2})));
  sender_->Push(Key(1), 0, 2, Blocks({1}));
  receiver_->Abort(Key(1));
  ASSERT_TRUE(received_.WaitFor(2));
  ASSERT_TRUE(sent_.WaitFor(2));
  EXPECT_EQ(CountOf<SenderEvent::Failed>(sent_.All(), Key(1)), 1);
  EXPECT_EQ(CountOf<SenderEvent::Released>(sent_.All(), Key(1)), 1);
}

TEST_P(KvShellsTest, AForgedTicketPlacesNothing) {
  landing_.FillAll(std::byte{0xee});
  Ticket ticket = OpenLanding(Key(1), Blocks({1, 2}));
  ticket.mac[15] ^= 1;
  OpenSend(Key(1), ticket);
  for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
    sender_->Push(Key(1), layer, 2, Blocks({1, 2}));
  }
  sender_->Finish(Key(1), {{42}});
  ASSERT_TRUE(sent_.WaitFor(2));
  const auto sent = sent_.All();
  ASSERT_EQ(CountOf<SenderEvent::Failed>(sent, Key(1)), 1);
  receiver_->Abort(Key(1));
  ASSERT_TRUE(received_.WaitFor(2));
  EXPECT_EQ(CountOf<ReceiverEvent::Sealed>(received_.All(), Key(1)), 0);
  EXPECT_TRUE(landing_.AllBytesAre(std::byte{0xee}));
}

TEST_P(KvShellsTest, DestroyingTheSenderFailsTheReceiver) {
  OpenSend(Key(1), OpenLanding(Key(1), Blocks({1, 2})));
  sender_->Push(Key(1), 0, 2, Blocks({1}));
  ASSERT_TRUE(sent_.WaitFor(0));
  sender_.reset();
  EXPECT_EQ(CountOf<SenderEvent::Failed>(sent_.All(), Key(1)), 1);
  EXPECT_EQ(CountOf<SenderEvent::Released>(sent_.All(), Key(1)), 1);
  receiver_->Abort(Key(1));  // the sender may never have reached it
  ASSERT_TRUE(received_.WaitFor(2));
  EXPECT_EQ(CountOf<ReceiverEvent::Released>(received_.All(), Key(1)), 1);
}

TEST_P(KvShellsTest, DestroyingTheReceiverFailsTheSender) {
  OpenSend(Key(1), OpenLanding(Key(1), Blocks({1, 2})));
  sender_->Push(Key(1), 0, 2, Blocks({1}));
  receiver_.reset();
  ASSERT_TRUE(sent_.WaitFor(2));
  EXPECT_EQ(CountOf<SenderEvent::Failed>(sent_.All(), Key(1)), 1);
  EXPECT_EQ(CountOf<ReceiverEvent::Failed>(received_.All(), Key(1)), 1);
  EXPECT_EQ(CountOf<ReceiverEvent::Released>(received_.All(), Key(1)), 1);
}

TEST_P(KvShellsTest, AnotherModelIsRefusedAtConnect) {
  sender_.reset();
  StartSender(2);
  Ticket ticket = OpenLanding(Key(1), Blocks({1}));
  ticket.layout_fingerprint = kLayout.Fingerprint(2);
  OpenSend(Key(1), ticket);
  ASSERT_TRUE(sent_.WaitFor(2));
  const auto sent = sent_.All();
  const auto* failed = std::get_if<SenderEvent::Failed>(&sent[0].what);
  ASSERT_NE(failed, nullptr);
  EXPECT_EQ(failed->failure, HandoffFailure::kTicketRefused);
  EXPECT_NE(failed->message.find("models differ"), std::string::npos) << failed->message;
}

TEST_P(KvShellsTest, NobodyListeningIsAPeerLost) {
  Ticket ticket = OpenLanding(Key(1), Blocks({1}));
  PeerAddress nowhere = receiver_->address();
  nowhere.port = 9;
  sender_->Open({Key(1), ticket, nowhere, clock_.Now() + absl::Seconds(30)});
  ASSERT_TRUE(sent_.WaitFor(2));
  const auto sent = sent_.All();
  const auto* failed = std::get_if<SenderEvent::Failed>(&sent[0].what);
  ASSERT_NE(failed, nullptr);
  EXPECT_EQ(failed->failure, HandoffFailure::kPeerLost);
}

TEST_P(KvShellsTest, MoreMessagesThanThereAreSlotsAllArrive) {
  // One message a block, three times as many as there are slots.
  constexpr int32_t kBlocks = 24;
  std::vector<BlockId> blocks;
  for (int32_t block = 0; block < kBlocks; ++block) blocks.push_back(BlockId(block));
  OpenSend(Key(1), OpenLanding(Key(1), blocks));
  for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
    for (int32_t block = 0; block < kBlocks; ++block) {
      source_.Fill(layer, BlockId(block), static_cast<uint8_t>(block + 1));
      sender_->Push(Key(1), layer, 2 + block, {BlockId(block)});
    }
  }
  static_assert(kBlocks * 4 >= 3 * kMaxStagedTransfers);
  sender_->Finish(Key(1), {{42}});
  ASSERT_TRUE(received_.WaitFor(2));
  ASSERT_TRUE(sent_.WaitFor(2));
  EXPECT_EQ(CountOf<ReceiverEvent::Sealed>(received_.All(), Key(1)), 1);
  const int64_t bytes = kLayout.num_layers * kBlocks * kLayout.BlockBytes();
  for (const Place place : {Place::kDevice, Place::kDirect}) {
    EXPECT_EQ(CopiedBytes(place, "send"), From() == place ? bytes : 0) << NameOf(place);
    EXPECT_EQ(CopiedBytes(place, "receive"), To() == place ? bytes : 0) << NameOf(place);
  }
  for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
    for (const BlockId block : blocks) {
      EXPECT_TRUE(landing_.Holds(layer, block, static_cast<uint8_t>(block.value() + 1)));
    }
  }
}

using Pair = std::tuple<std::string, Place, Place>;
const Pair kDevicePairs[] = {
    {"tcp", Place::kHost, Place::kDevice},
    {"tcp", Place::kDevice, Place::kHost},
    {"tcp", Place::kDevice, Place::kDevice},
    {"shm", Place::kDevice, Place::kDevice},
};
const Pair kDirectPairs[] = {
    {"shm", Place::kDirect, Place::kDirect}, {"tcp", Place::kDirect, Place::kDirect},
    {"shm", Place::kDirect, Place::kDevice}, {"tcp", Place::kDevice, Place::kDirect},
    {"tcp", Place::kHost, Place::kDirect},   {"shm", Place::kDirect, Place::kHost},
};
std::string NameOfPair(const ::testing::TestParamInfo<Pair>& info) {
  const auto& [transport, from, to] = info.param;
  return transport + "_" + NameOf(from) + "_to_" + NameOf(to);
}
INSTANTIATE_TEST_SUITE_P(OfHosts, KvShellsTest,
                         ::testing::Combine(::testing::Values("loopback", "tcp", "shm"),
                                            ::testing::Values(Place::kHost),
                                            ::testing::Values(Place::kHost)),
                         NameOfPair);
INSTANTIATE_TEST_SUITE_P(OfDevices, KvShellsTest, ::testing::ValuesIn(kDevicePairs), NameOfPair);
INSTANTIATE_TEST_SUITE_P(Direct, KvShellsTest, ::testing::ValuesIn(kDirectPairs), NameOfPair);

// Where at least one of the pools is a device's.
class StagedShellsTest : public KvShellsTest {};
INSTANTIATE_TEST_SUITE_P(OfDevices, StagedShellsTest, ::testing::ValuesIn(kDevicePairs),
                         NameOfPair);
INSTANTIATE_TEST_SUITE_P(Direct, StagedShellsTest, ::testing::ValuesIn(kDirectPairs), NameOfPair);
// At least one of them is reached by the transport.
class DirectShellsTest : public KvShellsTest {};
INSTANTIATE_TEST_SUITE_P(Direct, DirectShellsTest, ::testing::ValuesIn(kDirectPairs), NameOfPair);

TEST_P(StagedShellsTest, ACopyThatFailsSealsNothing) {
  (LandsOnDevice() ? landing_device_ : source_device_).FailCopies();
  OpenSend(Key(1), OpenLanding(Key(1), Blocks({1, 2})));
  for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
    sender_->Push(Key(1), layer, 2, Blocks({1, 2}));
  }
  sender_->Finish(Key(1), {{42}});
  ASSERT_TRUE(received_.WaitFor(2));
  ASSERT_TRUE(sent_.WaitFor(2));
  EXPECT_EQ(CountOf<ReceiverEvent::Sealed>(received_.All(), Key(1)), 0);
  EXPECT_EQ(CountOf<ReceiverEvent::Failed>(received_.All(), Key(1)), 1);
  EXPECT_EQ(CountOf<ReceiverEvent::Released>(received_.All(), Key(1)), 1);
  EXPECT_EQ(CountOf<SenderEvent::Delivered>(sent_.All(), Key(1)), 0);
  EXPECT_EQ(CountOf<SenderEvent::Released>(sent_.All(), Key(1)), 1);
  // The worker is told that it is not the peer.
  EXPECT_EQ(landing_copies_.failure().ok(), !LandsOnDevice());
  EXPECT_EQ(source_copies_.failure().ok(), LandsOnDevice());
}

TEST_P(StagedShellsTest, ACopyThatDoesNotEndIsSeenToBeOld) {
  DevicePool& device = LandsOnDevice() ? landing_device_ : source_device_;
  const KvCopyWatch& copies = LandsOnDevice() ? landing_copies_ : source_copies_;
  device.Hold(true);
  OpenSend(Key(1), OpenLanding(Key(1), Blocks({1, 2})));
  sender_->Push(Key(1), 0, 2, Blocks({1, 2}));
  device.AwaitStarted(1);
  const absl::Time later = clock_.Now() + absl::Minutes(1);
  while (copies.Age(later) < absl::Seconds(50)) std::this_thread::yield();  // told in its round
  device.Hold(false);
  while (copies.Age(later) > absl::ZeroDuration()) std::this_thread::yield();
}

TEST_P(DirectShellsTest, WhatTheDeviceSaysOfTheBytesDecides) {
  (To() == Place::kDirect ? landing_device_ : source_device_).SpoilChecksums();
  OpenSend(Key(1), OpenLanding(Key(1), Blocks({1, 2})));
  for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
    sender_->Push(Key(1), layer, 2, Blocks({1, 2}));
  }
  sender_->Finish(Key(1), {{42}});
  ASSERT_TRUE(received_.WaitFor(2));
  const auto received = received_.All();
  const auto* failed = std::get_if<ReceiverEvent::Failed>(&received[0].what);
  ASSERT_NE(failed, nullptr);
  EXPECT_EQ(failed->failure, HandoffFailure::kChecksum);
}

TEST_P(StagedShellsTest, BlocksAreNotReleasedWhileACopyStillWrites) {
  if (!LandsOnDevice()) GTEST_SKIP() << "nothing is copied there";
  landing_device_.Hold(true);
  OpenSend(Key(1), OpenLanding(Key(1), Blocks({1, 2})));
  sender_->Push(Key(1), 0, 2, Blocks({1, 2}));
  landing_device_.AwaitStarted(1);
  receiver_->Abort(Key(1));
  ASSERT_TRUE(received_.WaitFor(1));
  EXPECT_EQ(CountOf<ReceiverEvent::Failed>(received_.All(), Key(1)), 1);
  landing_device_.Hold(false);
  ASSERT_TRUE(received_.WaitFor(2));
  EXPECT_EQ(copies_at_release_, 0) << "H2";
  EXPECT_EQ(CountOf<ReceiverEvent::Released>(received_.All(), Key(1)), 1);
}

TEST_P(StagedShellsTest, StoppingWaitsForCopies) {
  DevicePool& device = LandsOnDevice() ? landing_device_ : source_device_;
  device.Hold(true);
  OpenSend(Key(1), OpenLanding(Key(1), Blocks({1, 2})));
  sender_->Push(Key(1), 0, 2, Blocks({1, 2}));
  device.AwaitStarted(1);
  sender_.reset();
  receiver_.reset();
  EXPECT_EQ(device.under_way(), 0);
  EXPECT_EQ(copies_at_release_, 0) << "H2";
  EXPECT_EQ(CountOf<SenderEvent::Released>(sent_.All(), Key(1)), 1);
  EXPECT_EQ(CountOf<ReceiverEvent::Released>(received_.All(), Key(1)), 1);
}

}  // namespace
}  // namespace baton
