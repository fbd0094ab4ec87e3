// What workers tell routers of their prefix caches, and what a next turn finds there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "common/hash.h"
#include "tests/unit/worker/toy_workers.h"

namespace baton {
namespace {

// The chain hashes of the full blocks whose KV is there once `tokens` has ended: the last token was
// drawn, but never computed.
std::set<uint64_t> HashesOf(std::span<const TokenId> tokens) {
  std::set<uint64_t> hashes;
  uint64_t parent = 0;
  for (size_t end = kToyBlockSize; end < tokens.size(); end += kToyBlockSize) {
    parent = PrefixBlockHash(parent, tokens.subspan(end - kToyBlockSize, kToyBlockSize));
    hashes.insert(parent);
  }
  return hashes;
}

// Prompt and answer.
std::vector<TokenId> Turn(const GenerationSpec& spec, const Transcript& transcript) {
  std::vector<TokenId> tokens = spec.tokens;
  tokens.insert(tokens.end(), transcript.tokens[0].begin(), transcript.tokens[0].end());
  return tokens;
}

v1::RouterMessage Resync() {
  v1::RouterMessage message;
  message.mutable_kv_resync();
  return message;
}

TEST(WorkerKvEvents, ASessionHearsASnapshotAndThenEveryChange) {
  TestWorker worker(WorkerRole::kBoth, Loopback());
  SessionClient early(worker.port());
  ASSERT_TRUE(early.Hello("early", 1));
  const GenerationSpec spec = SpecOf(4, 10, 20);
  early.Send(GenerateMessage(1, spec));
  ASSERT_TRUE(early.WaitFor([](const SessionClient& c) { return Finished({&c}, 1, 1); }));
  const std::set<uint64_t> expected = HashesOf(Turn(spec, TranscriptOf({&early}, 1, 1)));
  EXPECT_GE(expected.size(), 3u);
  EXPECT_TRUE(early.WaitFor([&](const SessionClient& c) { return c.KvHashes() == expected; }));
  const std::vector<v1::KvEvents> batches = early.KvBatches();
  EXPECT_TRUE(batches[0].snapshot());
  EXPECT_EQ(batches[0].stored_size(), 0);
  for (size_t i = 0; i < batches.size(); ++i) {
    EXPECT_EQ(batches[i].sequence(), i + 1);
    EXPECT_EQ(batches[i].snapshot(), i == 0);
  }
  SessionClient late(worker.port());
  ASSERT_TRUE(late.Hello("late", 1));
  EXPECT_TRUE(late.WaitFor([&](const SessionClient& c) { return c.KvHashes() == expected; }));
  EXPECT_EQ(late.KvBatches().size(), 1u) << "all of it is in the snapshot";
  late.Send(Resync());
  EXPECT_TRUE(late.WaitFor([&](const SessionClient& c) { return c.KvBatches().size() == 2; }));
  EXPECT_TRUE(late.KvBatches()[1].snapshot());
  EXPECT_EQ(late.KvBatches()[1].sequence(), 2u);
  EXPECT_EQ(late.KvHashes(), expected);
  EXPECT_EQ(early.KvBatches().size(), batches.size()) << "nobody else hears of it";
}

TEST(WorkerKvEvents, EvictionsAreTold) {
  TestWorker worker(WorkerRole::kBoth, Loopback(), {.num_blocks = 24});
  SessionClient client(worker.port());
  ASSERT_TRUE(client.Hello("router", 1));
  for (uint64_t i = 1; i <= 20; ++i) {
    client.Send(GenerateMessage(i, SpecOf(i, 20, 10)));
    ASSERT_TRUE(client.WaitFor([&](const SessionClient& c) { return Finished({&c}, i, 1); }));
  }
  SessionClient fresh(worker.port());
  ASSERT_TRUE(fresh.Hello("fresh", 1));
  ASSERT_TRUE(fresh.WaitFor([](const SessionClient& c) { return c.KvHashes().has_value(); }));
  const std::set<uint64_t> now = *fresh.KvHashes();
  EXPECT_LE(now.size(), 24u);
  EXPECT_TRUE(client.WaitFor([&](const SessionClient& c) { return c.KvHashes() == now; }));
  int removed = 0;
  for (const v1::KvEvents& batch : client.KvBatches()) removed += batch.removed_size();
  EXPECT_GT(removed, 40) << "20 prompts of 5 blocks went through 24";
}

TEST(WorkerKvEvents, TheNextTurnFindsTheKvThatDecodeProduced) {
  Pair pair;
  const GenerationSpec first = SpecOf(3, 9, 30);
  ASSERT_TRUE(pair.Start(1, first));
  const Transcript answer = pair.Wait(1, 1);
  ASSERT_TRUE(answer.AllFinished());
  GenerationSpec second = first;
  second.tokens = Turn(first, answer);
  const size_t computed = second.tokens.size() - 1;
  ASSERT_GT(computed, first.tokens.size() + 2 * kToyBlockSize);
  const std::set<uint64_t> known = HashesOf(second.tokens);
  for (int32_t i = 0; i < 10; ++i) second.tokens.push_back(1 + i);
  second.prompt_length = static_cast<int32_t>(second.tokens.size());
  second.stopping.max_tokens = 5;
  EXPECT_TRUE(
      pair.to_decode.WaitFor([&](const SessionClient& c) { return c.KvHashes() == known; }));
  ASSERT_TRUE(pair.Start(2, second));
  const Transcript next = pair.Wait(2, 1);
  EXPECT_EQ(next.reservation.first_missing_token(), computed / kToyBlockSize * kToyBlockSize);
  EXPECT_EQ(next.tokens, ToyAnswer(second, kMaxLen));
  pair.ExpectNothingHeld();
}

}  // namespace
}  // namespace baton
