// Handoffs between workers whose KV different numbers of processes hold.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <tuple>

#include "kvtransfer/region_spans.h"
#include "tests/unit/kvtransfer/handoff_fixture.h"

namespace baton {
namespace {

using testing::Blocks;
using testing::CountOf;
using testing::EventLog;
using testing::Key;
using testing::ShardedPool;

constexpr uint64_t kSeed = 20261122;
const KvLayout kLayout{.num_layers = 3, .num_kv_heads = 4, .head_dim = 16, .block_size = 16};

std::string BytesOf(const KvMemory& memory, int32_t layer, const std::vector<BlockId>& blocks) {
  std::string bytes;
  for (const MemorySpan& span : RegionSpans(memory).Of(layer, blocks)) {
    bytes.append(reinterpret_cast<const char*>(span.data), span.length_bytes);
  }
  return bytes;
}

// Transport, ranks of the sender, ranks of the receiver.
class ShardedHandoffTest
    : public ::testing::TestWithParam<std::tuple<std::string, int32_t, int32_t>> {};

TEST_P(ShardedHandoffTest, EveryHeadArrivesAtItsRank) {
  const auto& [transport, from_ranks, to_ranks] = GetParam();
  const MonotonicClock clock;
  Logger log("test", LogLevel::kError, LogFormat::kText);
  MetricRegistry metrics;
  const std::unique_ptr<TransportFactory> factory = testing::MakeFactory(transport);
  ASSERT_NE(factory, nullptr);
  const ShardedPool source(kLayout, 32, from_ranks);
  const ShardedPool landing(kLayout, 32, to_ranks);
  const std::vector<BlockId> from = Blocks({3, 4, 9, 1});
  const std::vector<BlockId> to = Blocks({7, 20, 21, 2});
  std::mt19937_64 random(kSeed);
  for (const MemorySpan& span : RegionSpans(source.memory).All()) {
    for (size_t i = 0; i < span.length_bytes; ++i) span.data[i] = std::byte(random());
  }

  EventLog<ReceiverEvent> received;
  EventLog<SenderEvent> sent;
  auto receiver = KvReceiver::Create({.memory = landing.memory,
                                      .model_fingerprint = 1,
                                      .boot = BootId(77),
                                      .worker_name = "decode-0"},
                                     *factory, clock, log, metrics, received.Sink());
  ASSERT_TRUE(receiver.ok()) << receiver.status();
  auto sender = KvSender::Create({.memory = source.memory,
                                  .model_fingerprint = 1,
                                  .boot = BootId(78),
                                  .worker_name = "prefill-0"},
                                 *factory, clock, log, metrics, sent.Sink());
  ASSERT_TRUE(sender.ok()) << sender.status();

  const absl::Time deadline = clock.Now() + absl::Seconds(30);
  const Ticket ticket =
      (*receiver)->Open({.key = Key(1), .blocks = to, .lease_deadline = deadline});
  (*sender)->Open({Key(1), ticket, (*receiver)->address(), deadline});
  for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
    (*sender)->Push(Key(1), layer, 0, {from[0], from[1]});
    (*sender)->Push(Key(1), layer, 2, {from[2], from[3]});
  }
  (*sender)->Finish(Key(1), {{42}});
  ASSERT_TRUE(received.WaitFor(2));
  ASSERT_TRUE(sent.WaitFor(2));
  EXPECT_EQ(CountOf<ReceiverEvent::Sealed>(received.All(), Key(1)), 1);
  for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
    EXPECT_EQ(BytesOf(landing.memory, layer, to), BytesOf(source.memory, layer, from))
        << "layer " << layer;
  }
  EXPECT_TRUE(landing.CopiesAreEqual());
}

INSTANTIATE_TEST_SUITE_P(Degrees, ShardedHandoffTest,
                         ::testing::Combine(::testing::Values("loopback", "tcp", "shm"),
                                            ::testing::Values(1, 2, 4, 8),
                                            ::testing::Values(1, 2, 4, 8)),
                         [](const auto& param) {
                           return std::get<0>(param.param) + "_" +
                                  std::to_string(std::get<1>(param.param)) + "_to_" +
                                  std::to_string(std::get<2>(param.param));
                         });

}  // namespace
}  // namespace baton
