// What kvtransfer/transport.h promises, on every backend. Both ends run on one thread, in turns.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "kvtransfer/transport.h"
#include "tests/conformance/transport_fixture.h"

namespace baton::testing {
namespace {

TEST_P(TransportTest, NamesItself) {
  ConnectClient();
  const std::string expected = GetParam() == "fault" ? "loopback" : GetParam();
  EXPECT_EQ(server().connection->transport_name(), expected);
  EXPECT_EQ(client_.connection->transport_name(), expected);
}

TEST_P(TransportTest, HeadersArriveInOrderBothWays) {
  ConnectClient();
  constexpr int kCount = 2000;
  std::vector<Done> done(2 * kCount);
  for (int i = 0; i < kCount; ++i) {
    client_.connection->Send(HeaderOf("to server " + std::to_string(i)), {}, done[i].Fn());
    server().connection->Send(HeaderOf("to client " + std::to_string(i)), {},
                              done[kCount + i].Fn());
  }
  ASSERT_TRUE(Drive(
      [&] { return server().messages.size() == kCount && client_.messages.size() == kCount; }));
  for (int i = 0; i < kCount; ++i) {
    ASSERT_EQ(server().messages[i].header, "to server " + std::to_string(i));
    ASSERT_EQ(client_.messages[i].header, "to client " + std::to_string(i));
    EXPECT_EQ(server().messages[i].payload, nullptr);
  }
  ASSERT_TRUE(Drive([&] {
    return std::all_of(done.begin(), done.end(), [](const Done& d) { return d.calls > 0; });
  }));
  for (const Done& d : done) EXPECT_EQ(d.calls, 1);
}

TEST_P(TransportTest, SendsBeforeTheConnectionIsUpArrive) {
  auto connection = here_->Connect(address_, &client_);
  ASSERT_TRUE(connection.ok());
  client_.connection = *std::move(connection);
  Bytes payload = Pattern(10'000, 1);
  const MemorySpan piece = SpanOf(payload);
  Done done;
  client_.connection->Send(HeaderOf("early"), std::span(&piece, 1), done.Fn());
  ASSERT_TRUE(Drive([&] { return accepted_.size() == 1 && !server().messages.empty(); }));
  EXPECT_EQ(server().messages[0].header, "early");
  EXPECT_EQ(server().messages[0].payload->length_bytes(), payload.size());
  Close();
}

TEST_P(TransportTest, ALargestHeaderArrivesWhole) {
  ConnectClient();
  std::string header(Connection::kMaxHeaderBytes, 'h');
  header.back() = 'e';
  Done done;
  client_.connection->Send(HeaderOf(header), {}, done.Fn());
  ASSERT_TRUE(Drive([&] { return !server().messages.empty() && done.calls == 1; }));
  EXPECT_EQ(server().messages[0].header, header);
}

TEST_P(TransportTest, PayloadsOfEverySizeArriveIntactAmongHeaders) {
  ConnectClient();
  const std::vector<size_t> sizes = {1,    7,      64,     1024,    2047,       2048,
                                     2049, 8192,   8193,   65536,   100'003,    1 << 20,
                                     3,    32'768, 16'384, 500'000, 12'345'678, size_t{64} << 20};
  for (size_t i = 0; i < sizes.size(); ++i) {
    Bytes from = Pattern(sizes[i], static_cast<uint32_t>(i));
    const MemorySpan piece = SpanOf(from);
    Done sent;
    Done between;
    client_.connection->Send(HeaderOf("payload"), std::span(&piece, 1), sent.Fn());
    client_.connection->Send(HeaderOf("between"), {}, between.Fn());
    ASSERT_TRUE(Drive([&] { return server().messages.size() == 2; })) << sizes[i];
    ASSERT_EQ(server().messages[0].header, "payload");
    ASSERT_EQ(server().messages[0].payload->length_bytes(), sizes[i]);
    Bytes to(sizes[i]);
    const MemorySpan target = SpanOf(to);
    Done received;
    server().messages[0].payload->Accept(std::span(&target, 1), received.Fn());
    ASSERT_TRUE(Drive([&] { return received.calls > 0 && sent.calls > 0 && between.calls > 0; }))
        << sizes[i];
    EXPECT_TRUE(received.status.ok()) << received.status;
    EXPECT_TRUE(sent.status.ok()) << sent.status;
    EXPECT_TRUE(from == to) << sizes[i];
    server().messages.clear();
  }
}

TEST_P(TransportTest, PiecesAreGatheredAndScattered) {
  ConnectClient();
  Bytes from = Pattern(300'000, 9);
  Bytes to(300'000);
  const std::vector<MemorySpan> pieces = {
      {from.data(), 100}, {from.data() + 100, 199'900}, {from.data() + 200'000, 100'000}};
  const std::vector<MemorySpan> targets = {
      {to.data(), 150'000}, {to.data() + 150'000, 1}, {to.data() + 150'001, 149'999}};
  Done sent;
  Done received;
  client_.connection->Send(HeaderOf("x"), pieces, sent.Fn());
  ASSERT_TRUE(Drive([&] { return !server().messages.empty(); }));
  server().messages[0].payload->Accept(targets, received.Fn());
  ASSERT_TRUE(Drive([&] { return received.calls == 1 && sent.calls == 1; }));
  EXPECT_TRUE(from == to);
}

TEST_P(TransportTest, ManyPayloadsMayBeOpenAndAreAcceptedInAnyOrder) {
  ConnectClient();
  constexpr size_t kCount = 50;
  std::vector<Bytes> from;
  std::vector<Bytes> to(kCount, Bytes(40'000));
  std::vector<Done> sent(kCount);
  std::vector<Done> received(kCount);
  for (size_t i = 0; i < kCount; ++i) from.push_back(Pattern(40'000, static_cast<uint32_t>(i)));
  for (size_t i = 0; i < kCount; ++i) {
    const MemorySpan piece = SpanOf(from[i]);
    client_.connection->Send(HeaderOf(std::to_string(i)), std::span(&piece, 1), sent[i].Fn());
  }
  ASSERT_TRUE(Drive([&] { return server().messages.size() == kCount; }));
  for (size_t i = kCount; i-- > 0;) {
    ASSERT_EQ(server().messages[i].header, std::to_string(i));
    const MemorySpan target = SpanOf(to[i]);
    server().messages[i].payload->Accept(std::span(&target, 1), received[i].Fn());
  }
  ASSERT_TRUE(Drive([&] {
    size_t ended = 0;
    for (size_t i = 0; i < kCount; ++i) ended += received[i].calls > 0 && sent[i].calls > 0;
    return ended == kCount;
  }));
  DriveRounds(100);
  for (size_t i = 0; i < kCount; ++i) {
    EXPECT_EQ(received[i].calls, 1);
    EXPECT_EQ(sent[i].calls, 1);
    EXPECT_TRUE(from[i] == to[i]) << i;
  }
}

TEST_P(TransportTest, ARefusedPayloadLeavesMemoryAlone) {
  ConnectClient();
  Bytes from = Pattern(500'000, 4);
  const Bytes before = from;
  const MemorySpan piece = SpanOf(from);
  Done sent;
  client_.connection->Send(HeaderOf("no"), std::span(&piece, 1), sent.Fn());
  ASSERT_TRUE(Drive([&] { return !server().messages.empty(); }));
  server().messages[0].payload->Refuse();
  ASSERT_TRUE(Drive([&] { return sent.calls == 1; }));
  EXPECT_TRUE(from == before);
  // The connection goes on.
  Done next;
  client_.connection->Send(HeaderOf("next"), {}, next.Fn());
  ASSERT_TRUE(Drive([&] { return server().messages.size() == 2; }));
  EXPECT_EQ(server().messages[1].header, "next");
  Close();
}

TEST_P(TransportTest, WaitEndsWhenSomethingArrivesOrWakeIsCalled) {
  ConnectClient();
  DriveRounds(200);
  std::thread waker([this] { there_->Wake(); });
  const absl::Time start = clock_.Now();
  there_->Wait(absl::Seconds(15));
  waker.join();
  Done done;
  client_.connection->Send(HeaderOf("x"), {}, done.Fn());
  while (server().messages.empty() && clock_.Now() - start < absl::Seconds(15)) {
    here_->Progress();
    there_->Wait(absl::Milliseconds(500));
    there_->Progress();
  }
  EXPECT_EQ(server().messages.size(), 1u);
  EXPECT_LT(clock_.Now() - start, absl::Seconds(10));
  Close();
}

}  // namespace
}  // namespace baton::testing
