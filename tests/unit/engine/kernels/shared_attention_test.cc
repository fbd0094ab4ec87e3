// Sequences that share KV blocks: read once, and not a bit different.
#include <cstring>

#include "engine/kernels/paged_attention.h"
#include "tests/unit/engine/kernels/op_harness.h"

namespace baton {
namespace {

constexpr int32_t kBlockSize = 16;

// A table of `shared` blocks from `first`, then `own` blocks that no other table has.
class Tables {
 public:
  std::vector<BlockId> Make(int32_t first, int32_t shared, int32_t own) {
    std::vector<BlockId> table;
    for (int32_t i = 0; i < shared; ++i) table.emplace_back(first + i);
    for (int32_t i = 0; i < own; ++i) table.emplace_back(next_own_++);
    return table;
  }
  int32_t num_blocks() const { return next_own_; }

 private:
  int32_t next_own_ = 64;
};

AttentionSequence Decoding(int32_t row, int32_t position, const std::vector<BlockId>& table) {
  return {.row_begin = row, .num_rows = 1, .start_position = position, .block_table = table};
}

TEST(PlanSharedAttentionTest, TakesNeighboursTogetherAsLongAsThatSavesReading) {
  Tables tables;
  const std::vector<std::vector<BlockId>> all = {
      tables.Make(0, 40, 1),  // 640 positions shared by the first three
      tables.Make(0, 40, 2), tables.Make(0, 41, 1),
      tables.Make(0, 5, 9),   // 64 of them: taken with the others, it would cost them their 640
      tables.Make(50, 3, 9),  // 48 positions: no whole tile
      tables.Make(50, 3, 9),
  };
  std::vector<AttentionSequence> sequences;
  for (size_t i = 0; i < all.size(); ++i) {
    sequences.push_back(Decoding(static_cast<int32_t>(i),
                                 static_cast<int32_t>(all[i].size()) * kBlockSize - 1, all[i]));
  }
  AttentionPlan plan;
  PlanAttention(sequences, {.num_heads = 2, .num_kv_heads = 1, .block_size = kBlockSize}, &plan);
  ASSERT_EQ(plan.tasks.size(), 4u);
  EXPECT_EQ(plan.tasks[0].num_sequences, 3);
  EXPECT_EQ(plan.tasks[0].shared_positions, 640);
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(plan.tasks[i].sequence, static_cast<int32_t>(i) + 2);
    EXPECT_EQ(plan.tasks[i].num_sequences, 1);
    EXPECT_EQ(plan.tasks[i].shared_positions, 0);
  }
}

// With 64 threads, each of the 8 is even cut into its two ranges of keys.
TEST(PlanSharedAttentionTest, LeavesWorkForAllThreads) {
  Tables tables;
  std::vector<std::vector<BlockId>> all;
  for (int i = 0; i < 8; ++i) all.push_back(tables.Make(0, 40, 1));
  std::vector<AttentionSequence> sequences;
  for (int32_t i = 0; i < 8; ++i) {
    sequences.push_back(Decoding(i, 650, all[static_cast<size_t>(i)]));
  }
  for (const auto& [threads, expected] : {std::pair(1, 2u), {2, 4u}, {4, 8u}, {64, 16u}}) {
    AttentionPlan plan;
    PlanAttention(
        sequences,
        {.num_heads = 4, .num_kv_heads = 1, .block_size = kBlockSize, .num_threads = threads},
        &plan);
    EXPECT_EQ(plan.tasks.size(), expected) << threads << " threads";
  }
}

class SharedAttentionTest : public OpTest {};

TEST_P(SharedAttentionTest, GivesEachSequenceTheBitsThatItHasAlone) {
  constexpr int32_t kHeads = 6, kKvHeads = 2, kHeadDim = 40;
  Tables tables;
  std::vector<std::vector<BlockId>> all;
  for (int32_t i = 0; i < 6; ++i) all.push_back(tables.Make(0, 17, 1 + i * 3));
  for (int32_t i = 0; i < 3; ++i) all.push_back(tables.Make(30, 4 + i, 2));
  all.push_back(tables.Make(0, 0, 3));
  std::vector<AttentionSequence> sequences;
  for (const std::vector<BlockId>& table : all) {
    const auto row = static_cast<int32_t>(sequences.size());
    sequences.push_back(
        Decoding(row, static_cast<int32_t>(table.size()) * kBlockSize - 1 - row % 5, table));
  }
  const auto rows = static_cast<int32_t>(sequences.size());
  OrderForAttention(sequences);
  const size_t numbers =
      static_cast<size_t>(tables.num_blocks()) * 2 * kKvHeads * kBlockSize * kHeadDim;
  const std::vector<float> values = RandomWeights(numbers);
  AlignedBuffer cache(numbers * sizeof(float));
  for (size_t i = 0; i < numbers; ++i) {
    if (GetParam().f32) {
      cache.As<float>()[i] = values[i];
    } else {
      cache.As<Bf16>()[i] = ToBf16(values[i]);
    }
  }
  const std::vector<float> queries = Random(static_cast<size_t>(rows) * kHeads * kHeadDim, 2.0f);
  const AttentionShape shape{
      .num_heads = kHeads, .num_kv_heads = kKvHeads, .block_size = kBlockSize};
  for (const int32_t window : {0, 70, 300}) {
    const auto attend = [&](std::span<const AttentionSequence> batch, AlignedBuffer* output) {
      AttentionPlan plan;
      PlanAttention(batch, shape, &plan);
      PagedAttention(context(),
                     {.queries = queries.data(),
                      .row_stride = kHeads * kHeadDim,
                      .sequences = batch,
                      .layer = ViewKvLayer({.num_layers = 1,
                                            .num_kv_heads = kKvHeads,
                                            .head_dim = kHeadDim,
                                            .block_size = kBlockSize,
                                            .dtype = cache_dtype()},
                                           cache.data()),
                      .output = output->data(),
                      .num_heads = kHeads,
                      .window = window,
                      .scale = 0.15f},
                     plan);
      return plan.tasks.size();
    };
    AlignedBuffer together(queries.size() * sizeof(float));
    AlignedBuffer alone(queries.size() * sizeof(float));
    EXPECT_LT(attend(sequences, &together), sequences.size() * kKvHeads);
    for (size_t i = 0; i < sequences.size(); ++i) {
      attend(std::span(sequences).subspan(i, 1), &alone);
    }
    EXPECT_EQ(std::memcmp(together.data(), alone.data(), together.size()), 0)
        << "window " << window;
  }
}

INSTANTIATE_TEST_SUITE_P(All, SharedAttentionTest, testing::ValuesIn(AllTables()), TableName);

}  // namespace
}  // namespace baton
