// Every state of both cores against every event: the tables in receiver_core.h and sender_core.h,
// line by line, and every sequence of events up to a depth.
#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "kvtransfer/core/receiver_core.h"
#include "kvtransfer/core/sender_core.h"

namespace baton {
namespace {

const absl::Time kStart = absl::UnixEpoch();
const absl::Duration kLease = absl::Seconds(10);
const absl::Duration kPeerTimeout = absl::Seconds(100);  // out of the way unless a test wants it
const absl::Duration kDrain = absl::Seconds(5);
constexpr uint64_t kFingerprint = 5;
const RequestKey kKey{RequestId(1), 1};

HandoffCoreOptions Options() {
  HandoffCoreOptions options;
  options.layout = {.num_layers = 1, .num_kv_heads = 1, .head_dim = 2, .block_size = 1};
  options.num_blocks = 8;
  options.layout_fingerprint = kFingerprint;
  options.boot = BootId(1);
  options.peer_timeout = kPeerTimeout;
  options.drain_timeout = kDrain;
  options.max_message_bytes = options.layout.BlockBytes();  // one block a message
  return options;
}

Ticket TheTicket() { return {kKey, BootId(1), 1, kFingerprint, 0, 2, {99}}; }

// A receiver with one handoff of two blocks and one greeted connection, and what it has said.
struct ReceiverWorld {
  explicit ReceiverWorld(const HandoffCoreOptions& options = Options()) : core(options) {
    core.Open({.key = kKey, .blocks = {BlockId(3), BlockId(5)}, .lease_deadline = kStart + kLease},
              TheTicket(), now);
    core.ConnectionUp(ConnectionId(1), "test", now);
    Message(HelloMessage{BootId(2), kFingerprint, Options().layout, "p"});
    Collect();
  }
  void Message(const WireMessage& message, bool with_payload = false) {
    std::optional<ReceiverCore::Payload> payload;
    if (with_payload) {
      payload = {PayloadId(next_payload++), static_cast<uint64_t>(Options().layout.BlockBytes())};
      ++unanswered;
    }
    core.MessageArrived(ConnectionId(1), EncodeMessage(message), payload, now);
  }
  void Blocks(int32_t first, Ticket ticket = TheTicket()) {
    Message(BlocksMessage{ticket, 0, first, 1, static_cast<uint64_t>(Options().layout.BlockBytes()),
                          77},
            true);
  }
  void CompleteOne(bool ok, uint64_t checksum) {
    if (posted.empty()) return;
    const TransferId id = posted.front();
    posted.erase(posted.begin());
    core.ReceiveDone(id, ok, checksum, now);
  }
  void Tick(absl::Duration by) {
    now += by;
    core.Tick(now);
  }
  // Carries the actions out, as a shell would, until there are none.
  void Collect() {
    for (auto actions = core.TakeActions(); !actions.empty(); actions = core.TakeActions()) {
      for (const ReceiverAction& action : actions) Carry(action);
    }
    const absl::Status status = core.CheckInvariants();
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_EQ(unanswered, 0) << "a payload was left without an answer";
  }
  void Carry(const ReceiverAction& action) {
    if (const auto* accept = std::get_if<AcceptPayload>(&action)) {
      --unanswered;
      posted.push_back(accept->receive);
    } else if (std::holds_alternative<RefusePayload>(action)) {
      --unanswered;
      ++refused;
    } else if (std::holds_alternative<CloseConnection>(action)) {
      ++closed;
      posted.clear();
      core.ConnectionDestroyed(ConnectionId(1), now);
    } else if (const auto* emit = std::get_if<EmitReceiverEvent>(&action)) {
      sealed += std::holds_alternative<ReceiverEvent::Sealed>(emit->event.what);
      failed += std::holds_alternative<ReceiverEvent::Failed>(emit->event.what);
      released += std::holds_alternative<ReceiverEvent::Released>(emit->event.what);
      if (const auto* f = std::get_if<ReceiverEvent::Failed>(&emit->event.what)) {
        failure = f->failure;
      }
    }
  }
  // As in receiver_core.h.
  std::string State() const {
    const ReceiverCensus census = core.census();
    if (census.open) return "Open";
    if (census.landing) return "Landing";
    if (census.quarantined) return "Quarantined";
    return sealed ? "Sealed" : "Failed";
  }

  ReceiverCore core;
  absl::Time now = kStart;
  uint64_t next_payload = 1;
  std::vector<TransferId> posted;
  int unanswered = 0;
  int refused = 0;
  int closed = 0;
  int sealed = 0;
  int failed = 0;
  int released = 0;
  std::optional<HandoffFailure> failure;
};

using ReceiverStep = std::function<void(ReceiverWorld&)>;

Ticket StaleTicket() {
  Ticket ticket = TheTicket();
  ticket.generation = 0;
  return ticket;
}

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

// ---------------------------------------------------------------- sender

const PeerAddress kPeer{"decode", 1, 1, "m"};

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
}  // namespace baton
