// A row whose keys several threads share: not a bit different.
#include <cstring>

#include "engine/kernels/paged_attention.h"
#include "tests/unit/engine/kernels/kv_reference.h"
#include "tests/unit/engine/kernels/op_harness.h"

namespace baton {
namespace {

constexpr int32_t kBlockSize = 16;

std::vector<BlockId> MakeTable(int32_t first, int32_t positions) {
  std::vector<BlockId> table(static_cast<size_t>(BlocksForTokens(positions, kBlockSize)));
  for (size_t i = 0; i < table.size(); ++i) table[i] = BlockId(first + static_cast<int32_t>(i));
  return table;
}

AttentionPlan PlanFor(std::span<const AttentionSequence> sequences, int32_t kv_heads,
                      int32_t threads) {
  AttentionPlan plan;
  PlanAttention(sequences,
                {.num_heads = 2 * kv_heads,
                 .num_kv_heads = kv_heads,
                 .block_size = kBlockSize,
                 .num_threads = threads},
                &plan);
  return plan;
}

TEST(PlanSplitAttentionTest, CutsARowThatIsMoreThanHalfOfAThreadsShare) {
  const std::vector<BlockId> table = MakeTable(0, 3 * kKeyRange);
  const AttentionSequence lone{
      .num_rows = 1, .start_position = 3 * kKeyRange - 1, .block_table = table};
  EXPECT_TRUE(PlanFor({&lone, 1}, 4, 1).merges.empty());
  EXPECT_TRUE(PlanFor({&lone, 1}, 4, 2).merges.empty()) << "two tasks for each thread are enough";
  const AttentionPlan plan = PlanFor({&lone, 1}, 4, 8);
  ASSERT_EQ(plan.merges.size(), 4u);
  EXPECT_EQ(plan.num_partials, 12);
  ASSERT_EQ(plan.tasks.size(), 12u);
  for (size_t i = 0; i < plan.tasks.size(); ++i) {
    EXPECT_EQ(plan.tasks[i].partial, static_cast<int32_t>(i));
    EXPECT_EQ(plan.tasks[i].key_range, static_cast<int32_t>(i % 3));
    EXPECT_EQ(plan.tasks[i].head_begin, plan.merges[i / 3].task.head_begin);
  }
  for (size_t i = 0; i < plan.merges.size(); ++i) {
    EXPECT_EQ(plan.merges[i].first_partial, static_cast<int32_t>(3 * i));
    EXPECT_EQ(plan.merges[i].num_partials, 3);
    EXPECT_EQ(plan.merges[i].task.partial, -1);
  }
}

TEST(PlanSplitAttentionTest, LeavesShortRowsAndPromptsWhole) {
  const std::vector<BlockId> table = MakeTable(0, 4 * kKeyRange);
  const std::vector<AttentionSequence> sequences = {
      {.row_begin = 0, .num_rows = 1, .start_position = kKeyRange - 1, .block_table = table},
      {.row_begin = 1, .num_rows = 1, .start_position = 4 * kKeyRange - 1, .block_table = table},
      {.row_begin = 2, .num_rows = 9, .start_position = 3 * kKeyRange, .block_table = table}};
  const AttentionPlan plan = PlanFor(sequences, 1, 64);
  ASSERT_EQ(plan.merges.size(), 1u);
  EXPECT_EQ(plan.merges[0].task.sequence, 1);
  EXPECT_EQ(plan.tasks.size(), 4u + 2u);
  EXPECT_EQ(plan.tasks[0].sequence, 1) << "long work starts first";
}

class SplitAttentionTest : public OpTest {};

TEST_P(SplitAttentionTest, GivesEachRowTheBitsThatItHasWhole) {
  constexpr int32_t kHeads = 6, kKvHeads = 3, kHeadDim = 40;
  const int32_t positions[] = {1700,          kKeyRange - 1,      kKeyRange,
                               kKeyRange + 1, 2 * kKeyRange + 63, 9};
  std::vector<std::vector<BlockId>> tables;
  int32_t num_blocks = 0;
  for (const int32_t position : positions) {
    tables.push_back(MakeTable(num_blocks, position + 1));
    num_blocks += static_cast<int32_t>(tables.back().size());
  }
  std::vector<AttentionSequence> sequences;
  for (size_t i = 0; i < tables.size(); ++i) {
    sequences.push_back({.row_begin = static_cast<int32_t>(i),
                         .num_rows = 1,
                         .start_position = positions[i],
                         .block_table = tables[i]});
  }
  const auto rows = static_cast<int32_t>(sequences.size());
  const std::vector<float> queries = Random(static_cast<size_t>(rows) * kHeads * kHeadDim, 2.0f);
  for (const KvDtype dtype : {cache_dtype(), KvDtype::kInt8}) {
    const KvLayout layout{.num_layers = 1,
                          .num_kv_heads = kKvHeads,
                          .head_dim = kHeadDim,
                          .block_size = kBlockSize,
                          .dtype = dtype};
    AlignedBuffer cache(static_cast<size_t>(num_blocks * layout.BlockBytes()));
    for (int64_t at = 0; at < num_blocks * layout.BlockBytes(); at += layout.RowBytes()) {
      StoreKvRow(dtype, Random(kHeadDim), cache.data() + at);
    }
    for (const int32_t window : {0, 70, kKeyRange + 300}) {
      const auto attend = [&](int32_t threads, AlignedBuffer* output) {
        const AttentionPlan plan = PlanFor(sequences, kKvHeads, threads);
        AlignedBuffer partials;
        PagedAttention(context(2),
                       {.queries = queries.data(),
                        .row_stride = kHeads * kHeadDim,
                        .sequences = sequences,
                        .layer = ViewKvLayer(layout, cache.data()),
                        .output = output->data(),
                        .num_heads = kHeads,
                        .window = window,
                        .scale = 0.2f,
                        .partials = &partials},
                       plan);
        return plan.merges.size();
      };
      const size_t bytes = static_cast<size_t>(rows) * kHeads * kHeadDim * sizeof(float);
      AlignedBuffer whole(bytes);
      EXPECT_EQ(attend(1, &whole), 0u);
      for (const auto& [threads, cut] : {std::pair(8, 2u), {64, 4u}}) {
        AlignedBuffer shared(bytes);
        EXPECT_EQ(attend(threads, &shared), cut * kKvHeads) << threads << " threads";
        EXPECT_EQ(std::memcmp(whole.data(), shared.data(), bytes), 0)
            << KvDtypeName(dtype) << ", window " << window << ", " << threads << " threads";
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, SplitAttentionTest, testing::ValuesIn(AllTables()), TableName);

}  // namespace
}  // namespace baton
