// How connections end on every backend: from either side, at any moment, and with what under way.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/hash.h"
#include "kvtransfer/transport.h"
#include "tests/conformance/transport_fixture.h"

namespace baton::testing {
namespace {

TEST_P(TransportTest, DestroyingTheSenderEndsItsSendsAndTellsThePeerOnce) {
  ConnectClient();
  Bytes from = Pattern(1 << 20, 4);
  const MemorySpan piece = SpanOf(from);
  std::vector<Done> sent(5);
  for (Done& done : sent) {
    client_.connection->Send(HeaderOf("x"), std::span(&piece, 1), done.Fn());
  }
  ASSERT_TRUE(Drive([&] { return server().messages.size() == sent.size(); }));
  client_.connection.reset();
  for (const Done& done : sent) EXPECT_EQ(done.calls, 1) << "before the destructor returned";
  ASSERT_TRUE(Drive([&] { return server().disconnects > 0; }));
  DriveRounds(200);
  EXPECT_EQ(server().disconnects, 1);
}

TEST_P(TransportTest, DestroyingTheReceiverEndsItsReceivesForGood) {
  ConnectClient();
  Bytes from = Pattern(8 << 20, 4);
  const MemorySpan piece = SpanOf(from);
  Bytes to(from.size());
  const MemorySpan target = SpanOf(to);
  Done sent;
  Done received;
  client_.connection->Send(HeaderOf("x"), std::span(&piece, 1), sent.Fn());
  ASSERT_TRUE(Drive([&] { return !server().messages.empty(); }));
  server().messages[0].payload->Accept(std::span(&target, 1), received.Fn());
  server().connection.reset();
  EXPECT_EQ(received.calls, 1) << "before the destructor returned";
  std::fill(to.begin(), to.end(), std::byte{0x3c});
  ASSERT_TRUE(Drive([&] { return client_.disconnects > 0; }));
  DriveRounds(200);
  EXPECT_EQ(client_.disconnects, 1);
  EXPECT_TRUE(std::all_of(to.begin(), to.end(), [](std::byte b) { return b == std::byte{0x3c}; }));
  client_.connection.reset();
  EXPECT_EQ(sent.calls, 1);
}

TEST_P(TransportTest, APayloadMayOutliveItsConnection) {
  ConnectClient();
  Bytes from = Pattern(1 << 20, 4);
  const MemorySpan piece = SpanOf(from);
  Done sent;
  client_.connection->Send(HeaderOf("x"), std::span(&piece, 1), sent.Fn());
  ASSERT_TRUE(Drive([&] { return !server().messages.empty(); }));
  auto payload = std::move(server().messages[0].payload);
  client_.connection.reset();
  server().connection.reset();
  Bytes to(from.size());
  const MemorySpan target = SpanOf(to);
  Done received;
  payload->Accept(std::span(&target, 1), received.Fn());
  EXPECT_EQ(received.calls, 1);
  EXPECT_FALSE(received.status.ok());
}

TEST_P(TransportTest, NobodyListeningIsADisconnect) {
  PeerAddress nowhere = address_;
  nowhere.port = 9;
  auto connection = here_->Connect(nowhere, &client_);
  if (!connection.ok()) return;  // said at once
  client_.connection = *std::move(connection);
  Done done;
  client_.connection->Send(HeaderOf("x"), {}, done.Fn());
  ASSERT_TRUE(Drive([&] { return client_.disconnects > 0; }));
  client_.connection.reset();
  EXPECT_EQ(done.calls, 1);
}

TEST_P(TransportTest, OneListenerServesManyPeers) {
  constexpr size_t kPeers = 5;
  std::vector<std::unique_ptr<End>> clients;
  std::vector<Done> done(kPeers);
  for (size_t i = 0; i < kPeers; ++i) {
    clients.push_back(std::make_unique<End>());
    clients.back()->connection = here_->Connect(address_, clients.back().get()).value();
    clients.back()->connection->Send(HeaderOf("peer " + std::to_string(i)), {}, done[i].Fn());
  }
  const auto all_heard = [&] {
    size_t heard = 0;
    for (const auto& end : accepted_) heard += end->messages.size();
    return heard == kPeers;
  };
  ASSERT_TRUE(Drive(all_heard));
  // The end of one is not the end of the others.
  clients[0].reset();
  ASSERT_TRUE(Drive([&] {
    return std::any_of(accepted_.begin(), accepted_.end(),
                       [](const auto& end) { return end->disconnects == 1; });
  }));
  for (size_t i = 1; i < kPeers; ++i) {
    clients[i]->connection->Send(HeaderOf("again"), {}, done[i].Fn());
  }
  const auto again = [&] {
    size_t heard = 0;
    for (const auto& end : accepted_) heard += end->messages.size() == 2;
    return heard == kPeers - 1;
  };
  EXPECT_TRUE(Drive(again));
  clients.clear();
}

// Every moment of connecting is one at which a worker may go. UCX 1.13 aborts the process when a
// reply of its own handshake waits on a TCP connection that then fails (ucp_request_send_state_ff).
TEST_P(TransportTest, APeerMayGoAtAnyMomentOfConnecting) {
  constexpr uint64_t kSeed = 7;
  constexpr int kDepartures = 240;
  // How many rounds connecting takes depends on the machine and its load: the bound follows it, so
  // that about half of the departures come later.
  double most_rounds = 640;
  int accepted = 0;
  for (int departure = 0; departure < kDepartures; ++departure) {
    SCOPED_TRACE(::testing::Message() << "seed " << kSeed << " departure " << departure);
    const uint64_t draw = HashCombine(kSeed, static_cast<uint64_t>(departure));
    Bytes payload(50'000);
    const MemorySpan piece = SpanOf(payload);
    Done sent;
    End client;
    client.connection = here_->Connect(address_, &client).value();
    if (draw & 1) client.connection->Send(HeaderOf("x"), std::span(&piece, 1), sent.Fn());
    bool answered = false;
    Done answer;
    for (uint64_t round = 0; round < (draw >> 8) % static_cast<uint64_t>(most_rounds); ++round) {
      here_->Progress();
      // Two speeds: workers on a busy machine do not move in step.
      if (round % (1 + (draw >> 1) % 3) == 0) there_->Progress();
      if (answered || accepted_.empty() || (draw & 8) == 0) continue;
      answered = true;
      server().connection->Send(HeaderOf("y"), std::span(&piece, 1), answer.Fn());
    }
    if ((draw & 16) && !accepted_.empty()) {
      server().connection.reset();
      ASSERT_TRUE(Drive([&] { return client.disconnects == 1; }));
    } else {
      client.connection.reset();
      // A listener that had not accepted yet never hears of the peer.
      if (!accepted_.empty()) {
        ASSERT_TRUE(Drive([&] { return server().disconnects == 1; }));
      } else {
        DriveRounds(200);
      }
    }
    most_rounds = std::max(8.0, most_rounds * (accepted_.empty() ? 1.05 : 1 / 1.05));
    accepted += static_cast<int>(accepted_.size());
    accepted_.clear();
    client.messages.clear();
    client.connection.reset();
    EXPECT_EQ(sent.calls, (draw & 1) ? 1 : 0);
    EXPECT_EQ(answer.calls, answered ? 1 : 0);
  }
  EXPECT_GT(accepted, kDepartures / 5) << "the rounds no longer reach past the handshake";
  if (GetParam() == "tcp" || GetParam() == "shm") {
    EXPECT_LT(accepted, kDepartures * 4 / 5) << "the rounds no longer end inside the handshake";
  }
}

}  // namespace
}  // namespace baton::testing
