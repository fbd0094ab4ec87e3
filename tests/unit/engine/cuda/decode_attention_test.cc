#include "tests/unit/engine/cuda/attention_harness.h"

namespace baton {
namespace {

using DecodeAttentionTest = CudaAttentionTest;

// The last row of each sequence.
AttentionRun LastRows(const std::vector<int32_t>& lengths, int32_t rows = 1) {
  AttentionRun run;
  for (const int32_t length : lengths) {
    const int32_t own = std::min(rows, length);
    run.rows.push_back({.sequence = static_cast<int32_t>(run.rows.size()),
                        .start_position = length - own,
                        .num_rows = own});
  }
  return run;
}

TEST_F(DecodeAttentionTest, EqualsANaiveSoftmaxAtOddSizes) {
  const std::vector<int32_t> lengths = {1, 7, 511, 512, 513, 1100, 64, 65};
  for (const AttentionShapeCase& shape :
       {AttentionShapeCase{.num_heads = 2, .num_kv_heads = 2, .head_dim = 64},
        {.num_heads = 3, .num_kv_heads = 1, .head_dim = 96, .block_size = 8},
        {.num_heads = 8, .num_kv_heads = 2, .head_dim = 128},
        {.num_heads = 7, .num_kv_heads = 1, .head_dim = 128, .block_size = 256},
        {.num_heads = 8, .num_kv_heads = 1, .head_dim = 256, .block_size = 32},
        {.num_heads = 20, .num_kv_heads = 1, .head_dim = 64, .block_size = 64}}) {
    Check(shape, lengths, LastRows(lengths));
  }
}

TEST_F(DecodeAttentionTest, AWindowHidesOlderPositions) {
  const std::vector<int32_t> lengths = {5, 600, 1025, 1536};
  for (const int32_t window : {1, 2, 40, 64, 511, 512, 513, 1030, 5000}) {
    Check({.num_heads = 6, .num_kv_heads = 2, .window = window}, lengths, LastRows(lengths));
  }
}

TEST_F(DecodeAttentionTest, AFewRowsOfASequenceAreCausal) {
  const std::vector<int32_t> lengths = {3, 514, 700};
  for (const int32_t window : {0, 2, 300}) {
    Check({.num_heads = 7, .num_kv_heads = 1, .window = window}, lengths, LastRows(lengths, 4));
    Check({.num_heads = 2, .num_kv_heads = 1, .head_dim = 128, .window = window}, lengths,
          LastRows(lengths, 4));
  }
}

TEST_F(DecodeAttentionTest, SequencesWithoutRowsDoNothing) {
  const AttentionShapeCase shape{.num_heads = 4, .num_kv_heads = 2};
  AttentionWorld world(shape, {30, 600});
  const AttentionRun run{.rows = {{.sequence = 0, .start_position = 29, .num_rows = 1},
                                  {.sequence = 1, .start_position = 0, .num_rows = 0},
                                  {.sequence = 1, .start_position = 599, .num_rows = 1},
                                  {.sequence = 0, .start_position = 20000, .num_rows = 0}}};
  ExpectExact(world, run, Run(world, run));
}

TEST_F(DecodeAttentionTest, ARowIsTheSameInEveryBatchLaunchAndBlockTable) {
  const std::vector<int32_t> lengths = {600, 130, 1, 1100, 512};
  for (const auto& [head_dim, window] : {std::pair(64, 0), {96, 530}, {128, 0}, {256, 530}}) {
    AttentionShapeCase shape{
        .num_heads = 6, .num_kv_heads = 2, .head_dim = head_dim, .window = window};
    AttentionWorld world(shape, lengths);
    const AttentionRun all = LastRows(lengths);
    const std::vector<Bf16> batched = Run(world, all);
    shape.block_size = 64;
    AttentionWorld other_blocks(shape, lengths);
    for (int32_t s = 0; s < 5; ++s) {
      AttentionRun alone{.rows = {all.rows[static_cast<size_t>(s)]}, .seed = 77};
      EXPECT_EQ(RowOf(Run(other_blocks, alone), shape, 0), RowOf(batched, shape, s));
      alone.more_positions = 3000;
      alone.more_rows = 3;
      EXPECT_EQ(RowOf(Run(world, alone), shape, 0), RowOf(batched, shape, s));
    }
  }
}

// Also as prompts, one of them whole.
TEST_F(DecodeAttentionTest, RangesMayBeShorter) {
  const std::vector<int32_t> lengths = {1, 63, 64, 129, 300};
  for (const AttentionShapeCase& shape :
       {AttentionShapeCase{.num_heads = 4, .num_kv_heads = 1, .head_dim = 128},
        {.num_heads = 9, .num_kv_heads = 1, .window = 100}}) {
    AttentionWorld world(shape, lengths);
    for (const int32_t key_range_log2 : {6, 7, 8}) {
      AttentionRun run = LastRows(lengths);
      run.key_range_log2 = key_range_log2;
      const std::vector<Bf16> decoded = Run(world, run);
      ExpectExact(world, run, decoded);
      run.kind = AttentionKind::kPrefill;
      EXPECT_EQ(Run(world, run), decoded) << key_range_log2;
      run.rows = {{.sequence = 4, .start_position = 0, .num_rows = 300}};
      const std::vector<Bf16> whole = Run(world, run);
      ExpectExact(world, run, whole, /*every=*/11);
      EXPECT_EQ(RowOf(whole, shape, 299), RowOf(decoded, shape, 4)) << key_range_log2;
    }
  }
}

// So many sequences that a block takes one range after another.
TEST_F(DecodeAttentionTest, BlocksMayTakeSeveralRanges) {
  for (const int32_t window : {0, 700}) {
    AttentionWorld world({.num_heads = 2, .num_kv_heads = 1, .window = window}, {1600});
    AttentionRun run{.rows = {{.start_position = 1599, .num_rows = 1}}};
    const std::vector<Bf16> one_each = Run(world, run);
    ExpectExact(world, run, one_each);
    for (const int32_t more : {2500, 7000}) {
      run.more_sequences = more;
      EXPECT_EQ(Run(world, run), one_each);
    }
  }
}

// All keys weigh the same. 2^34 and 512 are too far apart for a float to hold their sum, so that
// the last range is there only where the first two have met before.
TEST_F(DecodeAttentionTest, RangesAreMergedInRisingOrder) {
  for (const int32_t key_range_log2 : {kKeyRangeLog2, 8, 7, 6}) {
    const std::vector<int32_t> lengths = {3 << key_range_log2};
    const AttentionShapeCase shape;
    AttentionWorld world(shape, lengths);
    const float of_ranges[] = {0x1p25f, -0x1p25f, 1.0f};
    for (int32_t position = 0; position < lengths[0]; ++position) {
      std::fill_n(world.Kv(0, position, 0, 0), 64, Bf16{});
      std::fill_n(world.Kv(0, position, 1, 0), 64, ToBf16(of_ranges[position >> key_range_log2]));
    }
    AttentionRun run = LastRows(lengths);
    run.key_range_log2 = key_range_log2;
    for (const AttentionKind kind :
         {AttentionKind::kDecode, AttentionKind::kPrefill, AttentionKind::kWgmmaPrefill}) {
      run.kind = kind;
      for (const Bf16 value : RowOf(Run(world, run), shape, 0)) {
        EXPECT_EQ(ToFloat(value), ToFloat(ToBf16(1.0f / 3)))
            << key_range_log2 << " by kernel " << static_cast<int>(kind);
      }
    }
  }
}

// One number of one key or value, in the first range of keys, in the second, in the last tile.
TEST_F(DecodeAttentionTest, ANanInTheCacheIsNotForgotten) {
  const AttentionShapeCase shape{.num_heads = 4, .num_kv_heads = 2};
  const std::vector<int32_t> lengths = {700};
  for (const int32_t part : {0, 1}) {
    for (const int32_t position : {0, 511, 512, 699}) {
      AttentionWorld world(shape, lengths);
      world.Kv(0, position, part, 1)[5] = Bf16{0x7fc0};
      const std::vector<Bf16> output = Run(world, LastRows(lengths));
      for (int32_t head = 0; head < 4; ++head) {
        EXPECT_EQ(std::isnan(ToFloat(output[static_cast<size_t>(head * 64 + 5)])), head >= 2)
            << part << " " << position << " " << head;
        EXPECT_EQ(std::isnan(ToFloat(output[static_cast<size_t>(head * 64 + 6)])),
                  head >= 2 && part == 0);
      }
    }
  }
}

// A window may have given back the blocks before it: they are not even read.
TEST_F(DecodeAttentionTest, WhatAWindowHidesMayBeAnything) {
  const AttentionShapeCase shape{.num_heads = 4, .num_kv_heads = 2, .window = 100};
  AttentionWorld world(shape, {700});
  for (int32_t position = 0; position < 600; ++position) {
    for (int32_t part = 0; part < 2; ++part) world.Kv(0, position, part, 0)[0] = Bf16{0x7fc0};
  }
  const AttentionRun run = LastRows({700});
  AttentionWorld::Cache cache = world.MakeCache(1);
  std::fill_n(cache.tables[0].begin(), 600 / 16, -1000000);
  ExpectExact(world, run, Run(world, run, cache));
}

}  // namespace
}  // namespace baton
