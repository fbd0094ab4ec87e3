// What a block looks like on the wire does not depend on how many processes hold it.
#include "kvtransfer/region_spans.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>

#include "tests/unit/kvtransfer/handoff_fixture.h"

namespace baton {
namespace {

using testing::Blocks;
using testing::ShardedPool;

constexpr int32_t kNumBlocks = 6;
const KvLayout kLayout{.num_layers = 2, .num_kv_heads = 8, .head_dim = 12, .block_size = 16};

std::string Gather(const std::vector<MemorySpan>& spans) {
  std::string bytes;
  for (const MemorySpan& span : spans) {
    bytes.append(reinterpret_cast<const char*>(span.data), span.length_bytes);
  }
  return bytes;
}

void Scatter(const std::string& bytes, const std::vector<MemorySpan>& spans) {
  size_t at = 0;
  for (const MemorySpan& span : spans) {
    std::memcpy(span.data, bytes.data() + at, span.length_bytes);
    at += span.length_bytes;
  }
  EXPECT_EQ(at, bytes.size());
}

// Writes the row of every (block, K or V, head, token) as its name.
void NameRows(const ShardedPool& pool, int32_t layer) {
  for (size_t rank = 0; rank < pool.memory.regions.size(); ++rank) {
    const KvRegion& region = pool.memory.regions[rank];
    const auto row_bytes = static_cast<size_t>(region.layout.RowBytes());
    for (int32_t block = 0; block < kNumBlocks; ++block) {
      std::byte* at = region.Block(layer, BlockId(block));
      for (int32_t kv = 0; kv < 2; ++kv) {
        for (int32_t head = 0; head < region.layout.num_kv_heads; ++head) {
          const int32_t of_model =
              static_cast<int32_t>(rank) / pool.memory.copies * region.layout.num_kv_heads + head;
          for (int32_t token = 0; token < region.layout.block_size; ++token) {
            std::mt19937 name(static_cast<uint32_t>(
                (((layer * kNumBlocks + block) * 2 + kv) * 8 + of_model) * 256 + token));
            for (size_t i = 0; i < row_bytes; ++i) *at++ = static_cast<std::byte>(name());
          }
        }
      }
    }
  }
}

TEST(RegionSpans, ABlockOnTheWireIsThatOfAllHeadsWhoeverHoldsIt) {
  const std::vector<BlockId> blocks = Blocks({4, 5, 1});
  const ShardedPool whole(kLayout, kNumBlocks, 1);
  NameRows(whole, 1);
  const std::string expected = Gather(RegionSpans(whole.memory).Of(1, blocks));
  EXPECT_EQ(expected.size(), 3u * static_cast<size_t>(kLayout.BlockBytes()));
  for (const int32_t ranks : {2, 4, 8, 16, 24}) {
    const ShardedPool pool(kLayout, kNumBlocks, ranks);
    NameRows(pool, 1);
    const RegionSpans spans(pool.memory);
    EXPECT_EQ(Gather(spans.Of(1, blocks)), expected) << ranks << " ranks";
    const auto holders = static_cast<size_t>(std::min(ranks, kLayout.num_kv_heads));
    EXPECT_EQ(spans.Of(1, blocks).size(), 3u * 2 * holders);
    EXPECT_EQ(spans.All().size(), 2 * holders);
  }
}

TEST(RegionSpans, MovesBetweenAnyNumbersOfRanks) {
  for (const int32_t from : {1, 2, 4, 16}) {
    for (const int32_t to : {1, 2, 4, 16}) {
      const ShardedPool source(kLayout, kNumBlocks, from);
      const ShardedPool target(kLayout, kNumBlocks, to);
      const ShardedPool expected(kLayout, kNumBlocks, to);
      for (int32_t layer = 0; layer < 2; ++layer) {
        NameRows(source, layer);
        NameRows(expected, layer);
        const auto all = Blocks({0, 1, 2, 3, 4, 5});
        const RegionSpans spans(target.memory);
        Scatter(Gather(RegionSpans(source.memory).Of(layer, all)), spans.Of(layer, all));
        spans.WriteCopies(layer, all);
      }
      for (size_t rank = 0; rank < expected.memory.regions.size(); ++rank) {
        EXPECT_EQ(Gather(RegionSpans(JoinKvRegions({target.memory.regions[rank]})).All()),
                  Gather(RegionSpans(JoinKvRegions({expected.memory.regions[rank]})).All()))
            << from << " to " << to << ", rank " << rank;
      }
    }
  }
}

TEST(RegionSpans, OnlyTheBlocksThatCameAreCopied) {
  const ShardedPool pool(kLayout, kNumBlocks, 16);
  NameRows(pool, 0);
  const std::string before = Gather(RegionSpans(JoinKvRegions({pool.memory.regions[1]})).All());
  const RegionSpans spans(pool.memory);
  for (const MemorySpan& span : spans.Of(0, Blocks({1, 4, 2}))) {
    std::memset(span.data, 0x5a, span.length_bytes);
  }
  spans.WriteCopies(0, Blocks({1, 4}));
  const std::string after = Gather(RegionSpans(JoinKvRegions({pool.memory.regions[1]})).All());
  const auto bytes = static_cast<size_t>(pool.memory.regions[1].layout.BlockBytes());
  const std::string written(bytes, '\x5a');
  for (size_t block = 0; block < 2 * kNumBlocks; ++block) {  // of both layers
    EXPECT_EQ(after.substr(block * bytes, bytes),
              block == 1 || block == 4 ? written : before.substr(block * bytes, bytes))
        << block;
  }
}

TEST(RegionSpans, NeighboursOfOneProcessAreOneSpan) {
  const ShardedPool pool(kLayout, kNumBlocks, 1);
  const RegionSpans spans(pool.memory);
  EXPECT_EQ(spans.Of(0, Blocks({2, 3, 4})).size(), 1u);
  EXPECT_EQ(spans.Of(0, Blocks({3, 2, 4})).size(), 3u);
  EXPECT_EQ(spans.All().size(), 2u);
}

}  // namespace
}  // namespace baton
