// Executing a copy plan moves exactly the right bytes, for random pairs of layouts.
#include "kvtransfer/core/copy_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "common/hash.h"

namespace baton {
namespace {

class Draws {
 public:
  explicit Draws(uint64_t seed) : seed_(seed) {}
  int32_t Between(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(HashCombine(seed_, ++drawn_) %
                                      static_cast<uint64_t>(high - low + 1));
  }

 private:
  const uint64_t seed_;
  uint64_t drawn_ = 0;
};

// A pool of `shard` in which every element is known by its place in the model. bf16: 2 bytes.
struct Pool {
  Pool(const KvShard& s, int32_t num_tokens, Draws& draws) : shard(s) {
    const int32_t needed = BlocksForTokens(num_tokens, s.layout.block_size);
    const int32_t num_blocks = needed + 3;
    std::vector<int32_t> ids(static_cast<size_t>(num_blocks));
    std::iota(ids.begin(), ids.end(), 0);
    const bool shuffled = draws.Between(0, 1) == 1;
    for (size_t i = ids.size(); shuffled && i > 1; --i) {
      std::swap(ids[i - 1],
                ids[static_cast<size_t>(draws.Between(0, static_cast<int32_t>(i) - 1))]);
    }
    for (int32_t i = 0; i < needed; ++i) blocks.push_back(BlockId(ids[static_cast<size_t>(i)]));
    layers.assign(
        static_cast<size_t>(s.layout.num_layers),
        std::vector<uint16_t>(static_cast<size_t>(num_blocks * s.layout.BlockBytes() / 2), 0));
  }
  // Element (layer, kv, head, token, d), all of the model; by the definition in kv_layout.h.
  uint16_t& At(int32_t layer, int32_t kv, int32_t head, int32_t token, int32_t d) {
    const KvLayout& l = shard.layout;
    const int64_t block = blocks[static_cast<size_t>(token / l.block_size)].value();
    int64_t index = block * 2 + kv;
    index = index * l.num_kv_heads + head - shard.first_head;
    index = index * l.block_size + token % l.block_size;
    index = index * l.head_dim + d;
    return layers[static_cast<size_t>(layer - shard.first_layer)][static_cast<size_t>(index)];
  }
  template <typename Fn>
  void ForEach(int32_t num_tokens, const Fn& fn) {
    const KvLayout& l = shard.layout;
    for (int32_t layer = shard.first_layer; layer < shard.first_layer + l.num_layers; ++layer) {
      for (int32_t kv = 0; kv < 2; ++kv) {
        for (int32_t head = shard.first_head; head < shard.first_head + l.num_kv_heads; ++head) {
          for (int32_t token = 0; token < num_tokens; ++token) {
            for (int32_t d = 0; d < l.head_dim; ++d) {
              fn(layer, kv, head, token, d, At(layer, kv, head, token, d));
            }
          }
        }
      }
    }
  }

  KvShard shard;
  std::vector<BlockId> blocks;
  std::vector<std::vector<uint16_t>> layers;
};

uint16_t Element(int32_t layer, int32_t kv, int32_t head, int32_t token, int32_t d) {
  uint64_t h = HashCombine(static_cast<uint64_t>(layer), static_cast<uint64_t>(kv));
  h = HashCombine(h, static_cast<uint64_t>(head));
  h = HashCombine(h, static_cast<uint64_t>(token));
  return static_cast<uint16_t>(HashCombine(h, static_cast<uint64_t>(d)) | 1);  // never 0
}

void Execute(const std::vector<CopyMove>& moves, Pool& from, Pool& to) {
  for (const CopyMove& move : moves) {
    auto& source = from.layers[static_cast<size_t>(move.source_layer)];
    auto& target = to.layers[static_cast<size_t>(move.target_layer)];
    ASSERT_LE(move.source_offset + move.length_bytes, static_cast<int64_t>(source.size() * 2));
    ASSERT_LE(move.target_offset + move.length_bytes, static_cast<int64_t>(target.size() * 2));
    auto* target_bytes = reinterpret_cast<std::byte*>(target.data()) + move.target_offset;
    // Elements are never 0, so a pair of bytes that is not 0 was written before.
    ASSERT_EQ(move.target_offset % 2, 0);
    ASSERT_EQ(move.length_bytes % 2, 0);
    for (int64_t i = 0; i < move.length_bytes / 2; ++i) {
      ASSERT_EQ(target[static_cast<size_t>(move.target_offset / 2 + i)], 0) << "written twice";
    }
    std::memcpy(target_bytes, reinterpret_cast<std::byte*>(source.data()) + move.source_offset,
                static_cast<size_t>(move.length_bytes));
  }
}

KvShard RandomShard(Draws& draws, int32_t head_dim) {
  KvShard shard;
  shard.layout.num_layers = draws.Between(1, 3);
  shard.layout.num_kv_heads = draws.Between(1, 4);
  shard.layout.head_dim = head_dim;
  shard.layout.block_size = draws.Between(1, 9);
  shard.first_layer = draws.Between(0, 2);
  shard.first_head = draws.Between(0, 3);
  return shard;
}

TEST(CopyPlan, MovesExactlyWhatBothSidesHoldForRandomLayouts) {
  for (uint64_t seed = 1; seed <= 3000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Draws draws(seed);
    const int32_t head_dim = draws.Between(1, 3);
    const int32_t num_tokens = draws.Between(1, 30);
    Pool from(RandomShard(draws, head_dim), num_tokens, draws);
    Pool to(RandomShard(draws, head_dim), num_tokens, draws);
    TokenRange range;
    range.first_token = draws.Between(0, num_tokens - 1);
    range.num_tokens = draws.Between(0, num_tokens - range.first_token);
    from.ForEach(num_tokens, [](auto l, auto kv, auto h, auto t, auto d, uint16_t& e) {
      e = Element(l, kv, h, t, d);
    });
    const auto plan = PlanCopy(from.shard, to.shard, range);
    ASSERT_TRUE(plan.ok()) << plan.status();
    Execute(PlaceCopy(*plan, from.shard, from.blocks, to.shard, to.blocks), from, to);
    ASSERT_FALSE(HasFatalFailure());

    const auto holds = [](const KvShard& s, int32_t layer, int32_t head) {
      return layer >= s.first_layer && layer < s.first_layer + s.layout.num_layers &&
             head >= s.first_head && head < s.first_head + s.layout.num_kv_heads;
    };
    int64_t moved = 0;
    to.ForEach(num_tokens, [&](auto l, auto kv, auto h, auto t, auto d, uint16_t& e) {
      const bool expected = holds(from.shard, l, h) && t >= range.first_token &&
                            t < range.first_token + range.num_tokens;
      ASSERT_EQ(e, expected ? Element(l, kv, h, t, d) : 0) << l << kv << h << t << d;
      moved += expected;
    });
    // Nothing else was written: not other tokens' places, not other blocks.
    int64_t written = 0;
    for (const auto& layer : to.layers) {
      written += std::count_if(layer.begin(), layer.end(), [](uint16_t e) { return e != 0; });
    }
    ASSERT_EQ(written, moved);
    int64_t planned_bytes = 0;
    for (const CopySegment& segment : *plan) planned_bytes += segment.length_bytes;
    ASSERT_EQ(planned_bytes, moved * 2);
  }
}

TEST(CopyPlan, EqualLayoutsMoveWholeBlocksAndNeighboursTogether) {
  const KvShard shard{{.num_layers = 2, .num_kv_heads = 4, .head_dim = 64, .block_size = 16}};
  const auto plan = PlanCopy(shard, shard, {0, 64}).value();
  ASSERT_EQ(plan.size(), 8u);
  for (const CopySegment& segment : plan) {
    EXPECT_EQ(segment.length_bytes, shard.layout.BlockBytes());
    EXPECT_EQ(segment.source_block, segment.target_block);
  }
  const std::vector<BlockId> from = {BlockId(4), BlockId(5), BlockId(6), BlockId(7)};
  const std::vector<BlockId> to = {BlockId(0), BlockId(1), BlockId(8), BlockId(9)};
  const auto moves = PlaceCopy(plan, shard, from, shard, to);
  ASSERT_EQ(moves.size(), 4u);  // two runs in each of two layers
  for (const CopyMove& move : moves) EXPECT_EQ(move.length_bytes, 2 * shard.layout.BlockBytes());
}

TEST(CopyPlan, AHeadSplitTakesOnePieceForEachHeadRangeAndHalf) {
  KvShard whole{{.num_layers = 1, .num_kv_heads = 8, .head_dim = 64, .block_size = 16}};
  KvShard half{{.num_layers = 1, .num_kv_heads = 4, .head_dim = 64, .block_size = 16}, 0, 4};
  const auto plan = PlanCopy(whole, half, {0, 16}).value();
  ASSERT_EQ(plan.size(), 2u);  // K and V of heads 4 to 7
  EXPECT_EQ(plan[0].source_offset, 4 * 16 * 64 * 2);
  EXPECT_EQ(plan[0].target_offset, 0);
  EXPECT_EQ(plan[0].length_bytes, half.layout.BlockBytes() / 2);
}

TEST(CopyPlan, RefusesWhatItCannotJoin) {
  const KvShard shard{{.num_layers = 1, .num_kv_heads = 1, .head_dim = 2, .block_size = 1}};
  KvShard other = shard;
  other.layout.head_dim = 4;
  EXPECT_FALSE(PlanCopy(shard, other, {0, 1}).ok());
  other = shard;
  other.layout.dtype = KvDtype::kF32;
  EXPECT_FALSE(PlanCopy(shard, other, {0, 1}).ok());
  other = shard;
  other.layout.block_size = 0;
  EXPECT_FALSE(PlanCopy(shard, other, {0, 1}).ok());
  for (int32_t KvShard::*first : {&KvShard::first_layer, &KvShard::first_head}) {
    other = shard;
    other.*first = INT32_MAX;  // and the range [INT32_MAX, + 1) has no end
    EXPECT_FALSE(PlanCopy(shard, other, {0, 1}).ok());
  }
  other = shard;
  other.layout.head_dim = other.layout.block_size = other.layout.num_kv_heads = INT32_MAX;
  EXPECT_FALSE(PlanCopy(other, other, {0, 1}).ok());
  EXPECT_FALSE(PlanCopy(shard, shard, {-1, 1}).ok());
  EXPECT_FALSE(PlanCopy(shard, shard, {1, INT32_MAX}).ok());
}

}  // namespace
}  // namespace baton
