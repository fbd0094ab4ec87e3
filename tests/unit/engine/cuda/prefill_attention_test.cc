#include <cstdio>

#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/compute_pool.h"
#include "engine/kernels/kernel_table.h"
#include "engine/kernels/paged_attention.h"
#include "tests/unit/engine/cuda/attention_harness.h"

namespace baton {
namespace {

// All tests for each kernel; wgmma with the head dims that it has, and mma.sync in its place with
// the others.
class PrefillAttentionTest : public CudaAttentionTest,
                             public testing::WithParamInterface<AttentionKind> {
 protected:
  void SetUp() override {
    CudaAttentionTest::SetUp();
    if (IsSkipped() || GetParam() != AttentionKind::kWgmmaPrefill) return;
    if (!HasWgmmaAttention(context().info(), 64)) GTEST_SKIP() << "this device has no wgmma";
  }

  // Whether the tested kernel is what is taken.
  bool HasKernel(int32_t head_dim) const {
    return GetParam() == AttentionKind::kPrefill || HasWgmmaAttention(context().info(), head_dim);
  }

  // Sequences of 1, 64, .. new rows behind what is cached of them.
  static AttentionRun MixedRows() {
    return {.kind = GetParam(),
            .rows = {{.sequence = 3, .start_position = 100, .num_rows = 100},
                     {.sequence = 0, .start_position = 0, .num_rows = 1},
                     {.sequence = 1, .start_position = 0, .num_rows = 7},
                     {.sequence = 4, .start_position = 0, .num_rows = 0},
                     {.sequence = 2, .start_position = 0, .num_rows = 64},
                     {.sequence = 4, .start_position = 470, .num_rows = 43}}};
  }
};

INSTANTIATE_TEST_SUITE_P(Kernels, PrefillAttentionTest,
                         testing::Values(AttentionKind::kPrefill, AttentionKind::kWgmmaPrefill),
                         [](const testing::TestParamInfo<AttentionKind>& kind) {
                           return kind.param == AttentionKind::kPrefill ? "mma" : "wgmma";
                         });

const std::vector<int32_t> kLengths = {1, 7, 64, 200, 513};  // of what MixedRows are of

TEST_P(PrefillAttentionTest, EqualsANaiveSoftmaxAtOddSizes) {
  for (const AttentionShapeCase& shape :
       {AttentionShapeCase{.num_heads = 2, .num_kv_heads = 2, .head_dim = 64},
        {.num_heads = 3, .num_kv_heads = 1, .head_dim = 96, .block_size = 8},
        {.num_heads = 8, .num_kv_heads = 2, .head_dim = 128},
        {.num_heads = 7, .num_kv_heads = 1, .head_dim = 128, .block_size = 256},
        {.num_heads = 8, .num_kv_heads = 1, .head_dim = 256, .block_size = 32},
        {.num_heads = 70, .num_kv_heads = 1, .head_dim = 64, .block_size = 64}}) {
    Check(shape, kLengths, MixedRows(), 9);
  }
}

TEST_P(PrefillAttentionTest, AWindowHidesOlderPositions) {
  for (const int32_t window : {1, 20, 64, 65, 500}) {
    Check({.num_heads = 6, .num_kv_heads = 2, .window = window}, kLengths, MixedRows(), 7);
  }
}

TEST_P(PrefillAttentionTest, KeysOfManyRangesAreOneSoftmax) {
  const AttentionRun run{.kind = GetParam(),
                         .rows = {{.sequence = 0, .start_position = 0, .num_rows = 1100},
                                  {.sequence = 1, .start_position = 500, .num_rows = 20}}};
  for (const int32_t window : {0, 600}) {
    Check({.num_heads = 3, .num_kv_heads = 1, .window = window}, {1100, 520}, run, 83);
  }
  Check({.num_heads = 2, .num_kv_heads = 1, .head_dim = 128, .window = 600}, {1100, 520}, run, 83);
  if (!HasKernel(256)) return;
  Check({.num_heads = 2, .num_kv_heads = 1, .head_dim = 256}, {1100, 520},
        {.kind = GetParam(), .rows = {{.sequence = 0, .start_position = 1010, .num_rows = 90}}},
        11);
}

// However a prompt is cut, the same bits; by mma.sync also when its last row comes as a decode
// step. A device's wgmma may round sums otherwise than the mma.sync of decode.
TEST_P(PrefillAttentionTest, ChunksAndDecodeStepsGiveTheBitsOfTheWhole) {
  struct Cut {
    int32_t head_dim;
    int32_t window;
    int32_t chunk;
  };
  int32_t different = 0;
  for (const auto& [head_dim, window, chunk] :
       {Cut{64, 90, 97}, {96, 530, 256}, {128, 0, 97}, {256, 530, 256}}) {
    if (!HasKernel(head_dim)) continue;
    const AttentionShapeCase shape{
        .num_heads = 3, .num_kv_heads = 1, .head_dim = head_dim, .window = window};
    SCOPED_TRACE(shape);
    const int32_t length = 600;
    AttentionWorld world(shape, {length});
    const std::vector<Bf16> whole =
        Run(world, {.kind = GetParam(), .rows = {{.num_rows = length}}});
    for (int32_t begin = 0; begin < length; begin += chunk) {
      const int32_t rows = std::min(chunk, length - begin);
      // Later rows are not there yet.
      const std::vector<Bf16> part = Run(world,
                                         {.kind = GetParam(),
                                          .rows = {{.start_position = begin, .num_rows = rows}},
                                          .more_rows = 70},
                                         world.MakeCache(5, {begin + rows}));
      ASSERT_EQ(RowOf(part, shape, 0, rows), RowOf(whole, shape, begin, rows)) << begin;
    }
    for (const int32_t position : {0, 63, 64, 300, 511, 512, 599}) {
      const std::vector<Bf16> step =
          Run(world, {.rows = {{.start_position = position, .num_rows = 1}}});
      const std::vector<Bf16> row = RowOf(step, shape, 0);
      const std::vector<Bf16> expected = RowOf(whole, shape, position);
      if (GetParam() == AttentionKind::kPrefill) {
        ASSERT_EQ(row, expected) << position;
      }
      for (size_t i = 0; i < row.size(); ++i) {
        if (row[i] != expected[i]) ++different;
        ASSERT_NEAR(ToFloat(row[i]), ToFloat(expected[i]),
                    std::abs(ToFloat(expected[i])) * 0x1p-7f + 0.004f)
            << position;
      }
    }
  }
  if (different > 0) std::printf("%d numbers of wgmma have other bits than decode's\n", different);
}

TEST_P(PrefillAttentionTest, ASequenceIsTheSameInEveryBatchAndLaunch) {
  const AttentionShapeCase shape{.num_heads = 8, .num_kv_heads = 2, .head_dim = 128};
  AttentionWorld world(shape, kLengths);
  const AttentionRun all = MixedRows();
  const std::vector<Bf16> batched = Run(world, all);
  int32_t row = 0;
  for (const RowsOfSequence& rows : all.rows) {
    const std::vector<Bf16> alone = Run(
        world,
        {.kind = GetParam(), .rows = {rows}, .more_rows = 100, .more_positions = 1000, .seed = 9});
    EXPECT_EQ(RowOf(alone, shape, 0, rows.num_rows), RowOf(batched, shape, row, rows.num_rows));
    row += rows.num_rows;
  }
}

TEST_P(PrefillAttentionTest, ANanInTheCacheIsSeenByLaterRowsOnly) {
  const AttentionShapeCase shape{.num_heads = 2, .num_kv_heads = 1};
  AttentionWorld world(shape, {150});
  world.Kv(0, 70, 0, 0)[5] = Bf16{0x7fc0};
  const AttentionRun run{.kind = GetParam(), .rows = {{.num_rows = 150}}};
  std::vector<bool> expected(150, false);
  std::fill(expected.begin() + 70, expected.end(), true);
  EXPECT_EQ(RowsWithNan(Run(world, run), shape, 150), expected);
}

// The same arithmetic but for the order of sums within a tile and the exponential.
TEST_P(PrefillAttentionTest, IsCloseToTheCpuOp) {
  const KernelTable& table = GetKernels(*BestIsa(), false);
  auto pool = *ComputePool::Create(2, {});
  const int32_t head_dim = HasKernel(96) ? 96 : 128;
  for (const int32_t window : {0, 100}) {
    AttentionWorld world(
        {.num_heads = 6, .num_kv_heads = 2, .head_dim = head_dim, .window = window}, kLengths);
    const AttentionShapeCase& shape = world.shape();
    const AttentionRun run = MixedRows();
    AttentionWorld::Cache cache = world.MakeCache(1);
    std::vector<float> queries;
    std::vector<std::vector<BlockId>> tables;
    std::vector<AttentionSequence> sequences;
    int32_t rows = 0;
    for (const RowsOfSequence& part : run.rows) {
      tables.emplace_back();
      for (const int32_t block : cache.tables[static_cast<size_t>(part.sequence)]) {
        tables.back().emplace_back(block);
      }
      sequences.push_back({.row_begin = rows,
                           .num_rows = part.num_rows,
                           .start_position = part.start_position,
                           .block_table = tables.back()});
      const Bf16* query = world.Query(part.sequence, part.start_position, 0);
      for (int32_t i = 0; i < part.num_rows * 6 * head_dim; ++i)
        queries.push_back(ToFloat(query[i]));
      rows += part.num_rows;
    }
    AttentionPlan plan;
    PlanAttention(sequences, {.num_heads = 6, .num_kv_heads = 2, .block_size = shape.block_size},
                  &plan);
    AlignedBuffer output(queries.size() * sizeof(float));
    PagedAttention(
        {table, *pool},
        {.queries = queries.data(),
         .row_stride = 6 * head_dim,
         .sequences = sequences,
         .layer = ViewKvLayer(world.Layout(), reinterpret_cast<std::byte*>(cache.blocks.data())),
         .output = output.data(),
         .num_heads = 6,
         .window = window,
         .scale = world.Scale()},
        plan);
    const std::vector<Bf16> device = Run(world, run, cache);
    const bool bf16 = table.activation == ActivationDtype::kBf16;
    for (size_t i = 0; i < queries.size(); ++i) {
      const float cpu = bf16 ? ToFloat(output.As<Bf16>()[i]) : output.As<float>()[i];
      // One unit in the last place of bf16, and weights rounded to bf16.
      ASSERT_NEAR(ToFloat(device[i]), cpu, std::abs(cpu) * 0x1p-7f + 0.004f) << i;
    }
  }
}

TEST(HasWgmmaAttentionTest, IsForOneDeviceAndTwoHeadDims) {
  for (const int32_t capability : {80, 89, 90, 100, 103, 120}) {
    for (const int32_t head_dim : {64, 96, 128, 256}) {
      EXPECT_EQ(HasWgmmaAttention({.compute_capability = capability}, head_dim),
                capability == 90 && (head_dim == 64 || head_dim == 128));
    }
  }
}

TEST(CheckCudaAttentionTest, RefusesWhatTheKernelsCannotDo) {
  const CudaDeviceInfo large{.name = "large", .shared_bytes = 227 << 10};
  const CudaDeviceInfo small{.name = "small", .shared_bytes = 99 << 10};
  const auto check = [](const CudaDeviceInfo& device, const KvLayout& layout) {
    return CheckCudaAttention(device, layout).ToString();
  };
  KvLayout layout{.num_layers = 1, .num_kv_heads = 2, .head_dim = 128};
  EXPECT_EQ(check(large, layout), "OK");
  EXPECT_EQ(check(small, layout), "OK");
  layout.head_dim = 256;
  EXPECT_EQ(check(large, layout), "OK");
  EXPECT_EQ(check(small, layout),
            "UNIMPLEMENTED: attention heads of 256 numbers need 165888 bytes of shared memory in a "
            "thread block; small has 101376");
  layout.head_dim = 80;
  EXPECT_EQ(check(large, layout),
            "UNIMPLEMENTED: attention heads of 80 numbers on CUDA; allowed: 64, 96, 128, 256");
  layout = {.num_layers = 1, .num_kv_heads = 2, .head_dim = 64, .block_size = 24};
  EXPECT_EQ(check(large, layout),
            "UNIMPLEMENTED: KV blocks of 24 tokens on CUDA; allowed: powers of two from 8 to 256");
  layout.dtype = KvDtype::kInt8;
  EXPECT_EQ(check(large, layout),
            "UNIMPLEMENTED: a KV cache of int8 on CUDA; bf16 is what there is");
}

}  // namespace
}  // namespace baton
