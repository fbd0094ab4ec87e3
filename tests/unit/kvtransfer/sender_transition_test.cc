// Every state of the sender's core against every event: the table in sender_core.h, line by line,
// and every sequence of events up to a depth.
#include <gtest/gtest.h>

#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "kvtransfer/core/sender_core.h"
#include "kvtransfer/core/wire.h"
#include "kvtransfer/handoff.h"
#include "tests/unit/kvtransfer/handoff_terms.h"

namespace baton::testing {
namespace {

struct SenderWorld {
  SenderWorld() : core(Options()) {
    core.Open({kKey, TheTicket(), kPeer, kStart + kLease}, now);
    Collect();
  }
  void Message(const WireMessage& message) {
    core.MessageArrived(connection, EncodeMessage(message), now);
  }
  void CompleteOne(bool ok) {
    if (posted.empty()) return;
    const TransferId id = posted.front();
    posted.erase(posted.begin());
    core.SendDone(id, ok, now);
  }
  void Tick(absl::Duration by) {
    now += by;
    core.Tick(now);
  }
  void Collect() {
    for (auto actions = core.TakeActions(); !actions.empty(); actions = core.TakeActions()) {
      for (const SenderAction& action : actions) Carry(action);
    }
    const absl::Status status = core.CheckInvariants();
    ASSERT_TRUE(status.ok()) << status;
  }
  void Carry(const SenderAction& action) {
    if (const auto* open = std::get_if<OpenConnection>(&action)) {
      connection = open->connection;
    } else if (const auto* send = std::get_if<SendBlocks>(&action)) {
      posted.push_back(send->send);
    } else if (const auto* close = std::get_if<CloseConnection>(&action)) {
      posted.clear();
      core.ConnectionDestroyed(close->connection, now);
    } else if (const auto* control = std::get_if<SendControl>(&action)) {
      const auto message = DecodeMessage(control->header).value();
      tails += std::holds_alternative<TailMessage>(message);
      aborts += std::holds_alternative<AbortMessage>(message);
    } else if (const auto* emit = std::get_if<EmitSenderEvent>(&action)) {
      delivered += std::holds_alternative<SenderEvent::Delivered>(emit->event.what);
      failed += std::holds_alternative<SenderEvent::Failed>(emit->event.what);
      released += std::holds_alternative<SenderEvent::Released>(emit->event.what);
    }
  }
  std::string State() const {
    const SenderCensus census = core.census();
    if (census.active) return tails ? "TailSent" : "Active";
    if (census.draining) return "Draining";
    return delivered ? "Delivered" : "Failed";
  }

  SenderCore core;
  absl::Time now = kStart;
  ConnectionId connection;
  std::vector<TransferId> posted;
  int tails = 0;
  int aborts = 0;
  int delivered = 0;
  int failed = 0;
  int released = 0;
};

using SenderStep = std::function<void(SenderWorld&)>;

const std::vector<std::pair<std::string, SenderStep>>& SenderSteps() {
  static const std::vector<std::pair<std::string, SenderStep>> steps = {
      {"hello",
       [](auto& w) {
         w.Message(HelloMessage{BootId(1), kFingerprint, Options().layout, "d"});
       }},
      {"hello of another boot",
       [](auto& w) {
         w.Message(HelloMessage{BootId(9), kFingerprint, Options().layout, "d"});
       }},
      {"goodbye", [](auto& w) { w.Message(GoodbyeMessage{"no"}); }},
      {"push",
       [](auto& w) {
         w.core.Push(kKey, 0, 0, {BlockId(1), BlockId(2)}, w.now);
       }},
      {"push outside",
       [](auto& w) {
         w.core.Push(kKey, 0, 1, {BlockId(1), BlockId(2)}, w.now);
       }},
      {"finish", [](auto& w) { w.core.Finish(kKey, {{4}}, w.now); }},
      {"abort", [](auto& w) { w.core.Abort(kKey, w.now); }},
      {"send done", [](auto& w) { w.CompleteOne(true); }},
      {"send failed", [](auto& w) { w.CompleteOne(false); }},
      {"sealed", [](auto& w) { w.Message(SealedMessage{TheTicket()}); }},
      {"peer abort",
       [](auto& w) {
         w.Message(AbortMessage{TheTicket(), HandoffFailure::kChecksum});
       }},
      {"stale sealed", [](auto& w) { w.Message(SealedMessage{StaleTicket()}); }},
      {"disconnect", [](auto& w) { w.core.Disconnected(w.connection, "gone", w.now); }},
      {"lease over", [](auto& w) { w.Tick(kLease); }},
      {"ping", [](auto& w) { w.Message(PingMessage{}); }},
  };
  return steps;
}

TEST(SenderTransitions, EveryEventInEveryState) {
  const std::map<std::string, std::vector<std::string>> ways = {
      {"Active, connecting", {}},
      {"Active, streaming", {"hello"}},
      {"Active, all posted", {"hello", "push"}},
      {"TailSent, two posted", {"hello", "push", "finish"}},
      {"TailSent", {"hello", "push", "finish", "send done", "send done"}},
      {"Draining", {"hello", "push", "abort"}},
      {"Delivered", {"hello", "push", "finish", "send done", "send done", "sealed"}},
      {"Failed", {"abort"}},
  };
  const std::map<std::string, std::map<std::string, std::string>> table = {
      {"Active, connecting",
       {{"hello of another boot", "Failed"},
        {"goodbye", "Failed"},
        {"push outside", "Failed"},
        {"finish", "Failed"},  // two blocks were not pushed
        {"abort", "Failed"},
        {"sealed", "Failed"},  // before the hello: the connection is closed
        {"peer abort", "Failed"},
        {"stale sealed", "Failed"},
        {"disconnect", "Failed"},
        {"lease over", "Failed"}}},
      {"Active, streaming",
       {{"hello", "Failed"},
        {"hello of another boot", "Failed"},
        {"goodbye", "Failed"},
        {"push outside", "Failed"},
        {"finish", "Failed"},
        {"abort", "Failed"},
        {"sealed", "Failed"},
        {"peer abort", "Failed"},
        {"disconnect", "Failed"},
        {"lease over", "Failed"}}},
      {"Active, all posted",
       {{"hello", "Failed"},
        {"hello of another boot", "Failed"},
        {"goodbye", "Failed"},
        {"push", "Draining"},  // twice
        {"push outside", "Draining"},
        {"finish", "TailSent"},
        {"abort", "Draining"},
        {"send failed", "Draining"},  // the other send is still posted
        {"sealed", "Draining"},
        {"peer abort", "Draining"},
        {"disconnect", "Failed"},
        {"lease over", "Draining"}}},
      {"TailSent, two posted",
       {{"hello", "Failed"},
        {"hello of another boot", "Failed"},
        {"goodbye", "Failed"},
        {"push", "Draining"},
        {"push outside", "Draining"},
        {"abort", "Draining"},
        {"send failed", "Draining"},
        {"sealed", "Draining"},
        {"peer abort", "Draining"},
        {"disconnect", "Failed"},
        {"lease over", "Draining"}}},
      {"TailSent",
       {{"hello", "Failed"},
        {"hello of another boot", "Failed"},
        {"goodbye", "Failed"},
        {"push", "Failed"},
        {"push outside", "Failed"},
        {"abort", "Failed"},
        {"sealed", "Delivered"},
        {"peer abort", "Failed"},
        {"disconnect", "Failed"},
        {"lease over", "Failed"}}},
      {"Draining",
       {{"hello", "Failed"},
        {"hello of another boot", "Failed"},
        {"goodbye", "Failed"},
        {"disconnect", "Failed"},
        {"lease over", "Failed"}}},  // kLease is past drain_timeout
      {"Delivered", {}},
      {"Failed", {}},
  };
  for (const auto& [state, way] : ways) {
    for (const auto& [event, step] : SenderSteps()) {
      SCOPED_TRACE(state + " + " + event);
      SenderWorld world;
      for (const std::string& name : way) {
        for (const auto& [n, s] : SenderSteps()) {
          if (n == name) s(world);
        }
        world.Collect();
      }
      const std::string from = state.substr(0, state.find(','));
      ASSERT_EQ(world.State(), from);
      step(world);
      world.Collect();
      const auto& row = table.at(state);
      const auto it = row.find(event);
      EXPECT_EQ(world.State(), it == row.end() ? from : it->second);
      const bool over = world.State() == "Delivered" || world.State() == "Failed";
      EXPECT_EQ(world.released, over ? 1 : 0);
    }
  }
}

TEST(SenderTransitions, EverySequenceKeepsTheInvariants) {
  constexpr int kDepth = 4;
  int64_t sequences = 0;
  const std::function<void(const SenderWorld&, int)> explore = [&](const SenderWorld& from,
                                                                   int depth) {
    for (const auto& [name, step] : SenderSteps()) {
      if (::testing::Test::HasFatalFailure()) return;
      SenderWorld world(from);
      step(world);
      world.Collect();
      ASSERT_LE(world.delivered + world.failed, 1) << name;
      ASSERT_TRUE(world.released == 0 || world.posted.empty()) << name;
      if (depth > 1) {
        explore(world, depth - 1);
        continue;
      }
      ++sequences;
      world.Tick(kLease);
      world.Collect();
      world.Tick(kDrain);
      world.Collect();
      ASSERT_EQ(world.delivered + world.failed, 1) << name;
      ASSERT_EQ(world.released, 1) << name;
      ASSERT_EQ(world.core.census().posted_sends, 0) << name;
    }
  };
  explore(SenderWorld(), kDepth);
  std::cout << sequences << " sequences of " << kDepth << " events\n";
  EXPECT_GT(sequences, 50'000);
}

}  // namespace
}  // namespace baton::testing
