// Every state of the receiver's core against every event: the table in receiver_core.h, line by
// line, and every sequence of events up to a depth.
#include <gtest/gtest.h>

#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kvtransfer/core/receiver_core.h"
#include "kvtransfer/core/wire.h"
#include "kvtransfer/handoff.h"
#include "tests/unit/kvtransfer/handoff_terms.h"
#include "tests/unit/kvtransfer/receiver_world.h"

namespace baton::testing {
namespace {

using ReceiverStep = std::function<void(ReceiverWorld&)>;

const std::vector<std::pair<std::string, ReceiverStep>>& ReceiverSteps() {
  static const std::vector<std::pair<std::string, ReceiverStep>> steps = {
      {"abort", [](auto& w) { w.core.Abort(kKey, w.now); }},
      {"begin", [](auto& w) { w.Message(BeginMessage{TheTicket()}); }},
      {"blocks 0", [](auto& w) { w.Blocks(0); }},
      {"blocks 1", [](auto& w) { w.Blocks(1); }},
      {"blocks outside", [](auto& w) { w.Blocks(2); }},
      {"stale blocks", [](auto& w) { w.Blocks(0, StaleTicket()); }},
      {"tail",
       [](auto& w) {
         w.Message(TailMessage{TheTicket(), {{4}}});
       }},
      {"tail of two",
       [](auto& w) {
         w.Message(TailMessage{TheTicket(), {{4, 4}}});
       }},
      {"peer abort",
       [](auto& w) {
         w.Message(AbortMessage{TheTicket(), HandoffFailure::kAborted});
       }},
      {"receive done", [](auto& w) { w.CompleteOne(true, 77); }},
      {"receive corrupt", [](auto& w) { w.CompleteOne(true, 78); }},
      {"receive failed", [](auto& w) { w.CompleteOne(false, 0); }},
      {"disconnect", [](auto& w) { w.core.Disconnected(ConnectionId(1), "gone", w.now); }},
      {"lease over", [](auto& w) { w.Tick(kLease); }},
      {"garbage", [](auto& w) { w.core.MessageArrived(ConnectionId(1), "??", {}, w.now); }},
      {"ping", [](auto& w) { w.Message(PingMessage{}); }},
  };
  return steps;
}

const ReceiverStep& ReceiverStepNamed(const std::string& name) {
  for (const auto& [n, step] : ReceiverSteps()) {
    if (n == name) return step;
  }
  ADD_FAILURE() << name;
  return ReceiverSteps()[0].second;
}

TEST(ReceiverTransitions, EveryEventInEveryState) {
  const std::map<std::string, std::vector<std::string>> ways = {
      {"Open", {}},
      {"Landing", {"begin"}},
      {"Landing, one posted", {"blocks 0"}},
      {"Landing, one landed", {"blocks 0", "receive done"}},
      {"Landing, all landed", {"blocks 0", "blocks 1", "receive done", "receive done"}},
      {"Landing, last posted, tail", {"blocks 0", "receive done", "tail", "blocks 1"}},
      {"Quarantined", {"blocks 0", "abort"}},
      {"Sealed", {"blocks 0", "blocks 1", "receive done", "receive done", "tail"}},
      {"Failed", {"abort"}},
  };
  // state -> event -> next state. What is not listed stays.
  const std::map<std::string, std::map<std::string, std::string>> table = {
      {"Open",
       {{"abort", "Failed"},
        {"begin", "Landing"},
        {"blocks 0", "Landing"},
        {"blocks 1", "Landing"},
        {"blocks outside", "Failed"},
        {"tail", "Landing"},
        {"tail of two", "Failed"},
        {"peer abort", "Failed"},
        {"lease over", "Failed"}}},
      {"Landing",
       {{"abort", "Failed"},
        {"blocks outside", "Failed"},
        {"tail of two", "Failed"},
        {"peer abort", "Failed"},
        {"disconnect", "Failed"},
        {"lease over", "Failed"},
        {"garbage", "Failed"}}},
      {"Landing, one posted",
       {{"abort", "Quarantined"},
        {"blocks outside", "Quarantined"},
        {"tail of two", "Quarantined"},
        {"peer abort", "Quarantined"},
        {"receive corrupt", "Failed"},
        {"receive failed", "Failed"},
        {"disconnect", "Failed"},  // its receives end with the connection
        {"lease over", "Quarantined"},
        {"garbage", "Failed"}}},
      {"Landing, one landed",
       {{"abort", "Failed"},
        {"blocks outside", "Failed"},
        {"tail of two", "Failed"},
        {"peer abort", "Failed"},
        {"disconnect", "Failed"},
        {"lease over", "Failed"},
        {"garbage", "Failed"}}},
      {"Landing, all landed",
       {{"abort", "Failed"},
        {"blocks outside", "Failed"},
        {"tail", "Sealed"},
        {"tail of two", "Failed"},
        {"peer abort", "Failed"},
        {"disconnect", "Failed"},
        {"lease over", "Failed"},
        {"garbage", "Failed"}}},
      {"Landing, last posted, tail",
       {{"abort", "Quarantined"},
        {"blocks outside", "Quarantined"},
        {"peer abort", "Quarantined"},
        {"receive done", "Sealed"},
        {"receive corrupt", "Failed"},
        {"receive failed", "Failed"},
        {"disconnect", "Failed"},
        {"lease over", "Quarantined"},
        {"garbage", "Failed"}}},
      {"Quarantined",
       {{"receive done", "Failed"},
        {"receive corrupt", "Failed"},
        {"receive failed", "Failed"},
        {"disconnect", "Failed"},
        {"lease over", "Failed"},  // kLease is past drain_timeout: its connection is destroyed
        {"garbage", "Failed"}}},
      {"Sealed", {}},
      {"Failed", {}},
  };
  for (const auto& [state, way] : ways) {
    for (const auto& [event, step] : ReceiverSteps()) {
      SCOPED_TRACE(state + " + " + event);
      ReceiverWorld world;
      for (const std::string& name : way) {
        ReceiverStepNamed(name)(world);
        world.Collect();
      }
      const std::string from = state.substr(0, state.find(','));
      ASSERT_EQ(world.State(), from);
      step(world);
      world.Collect();
      const auto& row = table.at(state);
      const auto it = row.find(event);
      EXPECT_EQ(world.State(), it == row.end() ? from : it->second);
      const bool over = world.State() == "Sealed" || world.State() == "Failed";
      EXPECT_EQ(world.released, over ? 1 : 0);
      EXPECT_EQ(world.sealed + world.failed,
                world.State() == "Open" || world.State() == "Landing" ? 0 : 1);
    }
  }
}

// Every sequence of kDepth events: at most one end, Released once and last, nothing left at the
// end.
TEST(ReceiverTransitions, EverySequenceKeepsTheInvariants) {
  constexpr int kDepth = 4;
  int64_t sequences = 0;
  const std::function<void(const ReceiverWorld&, int)> explore = [&](const ReceiverWorld& from,
                                                                     int depth) {
    for (const auto& [name, step] : ReceiverSteps()) {
      if (::testing::Test::HasFatalFailure()) return;
      ReceiverWorld world(from);
      step(world);
      world.Collect();
      ASSERT_LE(world.sealed + world.failed, 1) << name;
      ASSERT_LE(world.released, world.sealed + world.failed) << name;
      ASSERT_TRUE(world.sealed == 0 || world.posted.empty()) << name;
      if (depth > 1) {
        explore(world, depth - 1);
        continue;
      }
      ++sequences;
      world.Tick(kLease);
      world.Collect();
      world.Tick(kDrain);
      world.Collect();
      ASSERT_EQ(world.sealed + world.failed, 1) << name;
      ASSERT_EQ(world.released, 1) << name;
      ASSERT_EQ(world.core.census().posted_receives, 0) << name;
    }
  };
  explore(ReceiverWorld(), kDepth);
  std::cout << sequences << " sequences of " << kDepth << " events\n";
  EXPECT_GT(sequences, 60'000);
}

TEST(ReceiverTransitions, ASilentPeerIsAskedThenGivenUp) {
  ReceiverWorld world;
  world.core.Abort(kKey, world.now);
  world.Collect();
  // A lease longer than the peer timeout, on the same connection.
  Ticket ticket = TheTicket();
  ticket.generation = 2;
  world.core.Open(
      {.key = kKey, .blocks = {BlockId(3), BlockId(5)}, .lease_deadline = kStart + absl::Hours(1)},
      ticket, world.now);
  world.Message(BeginMessage{ticket});
  world.Collect();
  bool asked = false;
  while (!asked && world.core.NextDeadline() < kStart + kPeerTimeout) {
    world.now = world.core.NextDeadline();
    world.core.Tick(world.now);
    for (const ReceiverAction& action : world.core.TakeActions()) {
      const auto* send = std::get_if<SendControl>(&action);
      asked |= send != nullptr &&
               std::holds_alternative<PingMessage>(DecodeMessage(send->header).value());
    }
  }
  EXPECT_TRUE(asked);
  world.now = kStart + kPeerTimeout;
  world.core.Tick(world.now);
  world.Collect();
  EXPECT_EQ(world.closed, 1);
  EXPECT_EQ(world.failure, HandoffFailure::kPeerLost);
  EXPECT_EQ(world.released, 2);
}

TEST(ReceiverTransitions, AConnectionWithoutHelloOrWithAnotherLayoutIsClosed) {
  ReceiverCore core(Options());
  core.ConnectionUp(ConnectionId(1), "test", kStart);
  core.Tick(kStart + kPeerTimeout);
  const auto closed = core.TakeActions();
  ASSERT_EQ(closed.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<CloseConnection>(closed[0]));

  core.ConnectionUp(ConnectionId(2), "test", kStart);
  core.MessageArrived(ConnectionId(2),
                      EncodeMessage(HelloMessage{BootId(2), 1, Options().layout, ""}), {}, kStart);
  const auto refused = core.TakeActions();
  ASSERT_EQ(refused.size(), 1u);
  const auto goodbye = DecodeMessage(std::get<SendControl>(refused[0]).header).value();
  ASSERT_TRUE(std::holds_alternative<GoodbyeMessage>(goodbye));
  EXPECT_NE(std::get<GoodbyeMessage>(goodbye).reason.find("models differ"), std::string::npos);
}

}  // namespace
}  // namespace baton::testing
