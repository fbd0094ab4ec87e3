// What both cores hold back while their windows are full, and what is too long for them.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "kvtransfer/core/receiver_core.h"
#include "kvtransfer/core/sender_core.h"
#include "kvtransfer/core/wire.h"
#include "tests/unit/kvtransfer/handoff_terms.h"
#include "tests/unit/kvtransfer/receiver_world.h"

namespace baton::testing {
namespace {

TEST(ReceiverWindow, AMessageLongerThanAllowedFailsItsHandoff) {
  ReceiverWorld world;  // one block a message
  const auto bytes = static_cast<uint64_t>(2 * Options().layout.BlockBytes());
  world.core.MessageArrived(ConnectionId(1),
                            EncodeMessage(BlocksMessage{TheTicket(), 0, 0, 2, bytes, 77}),
                            ReceiverCore::Payload{PayloadId(1), bytes}, kStart);
  ++world.unanswered;
  world.Collect();
  EXPECT_EQ(world.refused, 1);
  EXPECT_EQ(world.failed, 1);
  EXPECT_EQ(world.core.census().posted_receives, 0);
}

// Windows of that many blocks: in bytes, and in transfers of one block each.
HandoffCoreOptions BytesWindow(int32_t blocks) {
  HandoffCoreOptions options = Options();
  options.max_bytes_in_flight = blocks * options.layout.BlockBytes();
  return options;
}
HandoffCoreOptions TransfersWindow(int32_t blocks) {
  HandoffCoreOptions options = Options();
  options.max_transfers = blocks;
  return options;
}
class WindowTest : public ::testing::TestWithParam<HandoffCoreOptions (*)(int32_t)> {};
INSTANTIATE_TEST_SUITE_P(Of, WindowTest, ::testing::Values(BytesWindow, TransfersWindow),
                         [](const auto& param) {
                           return param.param == BytesWindow ? "bytes" : "transfers";
                         });

TEST_P(WindowTest, PayloadsWaitWhileTheReceiversIsFull) {
  const HandoffCoreOptions options = GetParam()(1);
  ReceiverWorld world(options);
  world.Blocks(0);
  world.Blocks(1);
  EXPECT_EQ(world.core.census().posted_receives, 1);
  EXPECT_EQ(world.core.census().waiting_payloads, 1);
  for (const auto& action : world.core.TakeActions()) world.Carry(action);
  world.CompleteOne(true, 77);
  world.Collect();
  EXPECT_EQ(world.core.census().posted_receives, 1);
  EXPECT_EQ(world.core.census().waiting_payloads, 0);
}

TEST_P(WindowTest, HandoffsTakeTurnsAndTheSendersHolds) {
  const HandoffCoreOptions options = GetParam()(4);
  SenderCore core(options);
  std::vector<std::pair<RequestKey, TransferId>> posted;
  const auto collect = [&] {
    for (const SenderAction& action : core.TakeActions()) {
      if (const auto* send = std::get_if<SendBlocks>(&action)) {
        posted.push_back({send->message.ticket.key, send->send});
      }
    }
    ASSERT_TRUE(core.CheckInvariants().ok());
  };
  const auto open = [&](uint64_t request, const PeerAddress& peer) {
    Ticket ticket = TheTicket();
    ticket.key = {RequestId(request), 1};
    ticket.num_blocks = 4;
    core.Open({ticket.key, ticket, peer, kStart + kLease}, kStart);
  };
  PeerAddress other = kPeer;
  other.port = 2;
  open(1, kPeer);
  open(2, kPeer);
  open(3, other);
  const std::string hello =
      EncodeMessage(HelloMessage{BootId(1), kFingerprint, options.layout, "d"});
  core.MessageArrived(ConnectionId(1), hello, kStart);
  core.MessageArrived(ConnectionId(2), hello, kStart);
  for (uint64_t request = 1; request <= 3; ++request) {
    core.Push({RequestId(request), 1}, 0, 0, {BlockId(0), BlockId(1), BlockId(2), BlockId(3)},
              kStart);
  }
  collect();
  // No connection takes more than half of the window.
  ASSERT_EQ(posted.size(), 4u);
  int to_other = 0;
  for (const auto& [key, id] : posted) to_other += key.request == RequestId(3);
  EXPECT_EQ(to_other, 2);
  // As sends end, the two handoffs of one connection take turns.
  std::vector<uint64_t> order;
  for (size_t i = 0; i < posted.size(); ++i) {
    core.SendDone(posted[i].second, true, kStart);
    collect();
  }
  for (const auto& [key, id] : posted) {
    if (key.request != RequestId(3)) order.push_back(key.request.value());
  }
  EXPECT_EQ(order.size(), 8u);
  // Request 1 was alone at first and is still first in line; from there they alternate.
  EXPECT_EQ(order, (std::vector<uint64_t>{1, 1, 1, 2, 1, 2, 2, 2}));
}

}  // namespace
}  // namespace baton::testing
