// One layer's cache and queries of a few sequences, on the device: what tests of attention run on,
// and what must come out.
//
// Whatever no row may see is NaN: blocks that no sequence has, what lies behind a sequence's end.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <ostream>
#include <random>
#include <utility>
#include <vector>

#include "common/kv_layout.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/attention.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kernels/kv_write.h"
#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {

struct AttentionShapeCase {
  int32_t num_heads = 1;
  int32_t num_kv_heads = 1;
  int32_t head_dim = 64;
  int32_t window = 0;
  int32_t block_size = 16;

  friend std::ostream& operator<<(std::ostream& out, const AttentionShapeCase& shape) {
    return out << shape.num_heads << "/" << shape.num_kv_heads << " heads of " << shape.head_dim
               << ", window " << shape.window << ", block size " << shape.block_size;
  }
};

struct RowsOfSequence {
  int32_t sequence = 0;        // of the cache
  int32_t start_position = 0;  // of the first row
  int32_t num_rows = 0;
};

enum class AttentionKind { kDecode, kPrefill, kWgmmaPrefill };

// Sequences of the given lengths, with keys, values and a query at every position. The same seed
// and lengths give the same numbers whatever the block size is.
class AttentionWorld {
 public:
  AttentionWorld(const AttentionShapeCase& shape, std::vector<int32_t> lengths, uint64_t seed = 1)
      : shape_(shape), lengths_(std::move(lengths)), random_(seed) {
    for (const int32_t length : lengths_) {
      const auto tokens = static_cast<size_t>(length);
      queries_.push_back(Random(tokens * static_cast<size_t>(shape.num_heads * shape.head_dim)));
      kv_.push_back(Random(tokens * static_cast<size_t>(2 * shape.num_kv_heads * shape.head_dim)));
    }
  }

  const AttentionShapeCase& shape() const { return shape_; }
  KvLayout Layout() const {
    return {.num_layers = 1,
            .num_kv_heads = shape_.num_kv_heads,
            .head_dim = shape_.head_dim,
            .block_size = shape_.block_size};
  }
  float Scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }

  // The key (part 0) or value (part 1) of a token.
  Bf16* Kv(int32_t sequence, int32_t position, int32_t part, int32_t kv_head) {
    const int64_t row = (int64_t{position} * 2 + part) * shape_.num_kv_heads + kv_head;
    return &kv_[static_cast<size_t>(sequence)][static_cast<size_t>(row * shape_.head_dim)];
  }
  const Bf16* Query(int32_t sequence, int32_t position, int32_t head) const {
    const int64_t row = int64_t{position} * shape_.num_heads + head;
    return &queries_[static_cast<size_t>(sequence)][static_cast<size_t>(row * shape_.head_dim)];
  }

  // The exact result of one head of one row.
  std::vector<double> Naive(int32_t sequence, int32_t position, int32_t head) {
    const int32_t first = shape_.window == 0 ? 0 : std::max(0, position - shape_.window + 1);
    const int32_t kv_head = head / (shape_.num_heads / shape_.num_kv_heads);
    const Bf16* query = Query(sequence, position, head);
    std::vector<double> scores;
    for (int32_t p = first; p <= position; ++p) {
      const Bf16* key = Kv(sequence, p, 0, kv_head);
      double score = 0;
      for (int32_t i = 0; i < shape_.head_dim; ++i) {
        score += double{ToFloat(query[i])} * double{ToFloat(key[i])};
      }
      scores.push_back(score * double{Scale()});
    }
    const double maximum = *std::max_element(scores.begin(), scores.end());
    std::vector<double> result(static_cast<size_t>(shape_.head_dim), 0.0);
    double sum = 0;
    for (int32_t p = first; p <= position; ++p) {
      const double weight = std::exp(scores[static_cast<size_t>(p - first)] - maximum);
      const Bf16* value = Kv(sequence, p, 1, kv_head);
      for (double& x : result) x += weight * double{ToFloat(*value++)};
      sum += weight;
    }
    for (double& x : result) x /= sum;
    return result;
  }

  struct Cache {
    std::vector<Bf16> blocks;                  // as Layout says
    std::vector<std::vector<int32_t>> tables;  // of each sequence
  };
  // Blocks in an order of their own for every seed. Positions from `ends` on (of each sequence;
  // none: its length) are as if nobody had written them.
  Cache MakeCache(uint64_t seed, const std::vector<int32_t>& ends = {}) {
    Cache cache;
    int32_t num_blocks = 3;  // that nobody has
    for (const int32_t length : lengths_) num_blocks += BlocksForTokens(length, shape_.block_size);
    std::vector<int32_t> order(static_cast<size_t>(num_blocks));
    std::iota(order.begin(), order.end(), 0);
    std::mt19937_64 random(seed);
    std::shuffle(order.begin(), order.end(), random);
    cache.blocks.assign(static_cast<size_t>(num_blocks * Layout().BlockBytes()) / sizeof(Bf16),
                        Bf16{0x7fc0});
    for (size_t s = 0; s < lengths_.size(); ++s) {
      cache.tables.emplace_back();
      for (int32_t b = 0; b < BlocksForTokens(lengths_[s], shape_.block_size); ++b) {
        cache.tables[s].push_back(order.back());
        order.pop_back();
      }
      const int32_t end = ends.empty() ? lengths_[s] : ends[s];
      for (int32_t p = 0; p < end; ++p) Write(static_cast<int32_t>(s), p, cache);
    }
    return cache;
  }

 private:
  std::vector<Bf16> Random(size_t count) {
    std::normal_distribution<float> normal(0.0f, 1.0f);
    std::vector<Bf16> values(count);
    for (Bf16& value : values) value = ToBf16(normal(random_));
    return values;
  }

  void Write(int32_t sequence, int32_t position, Cache& cache) {
    const int64_t block =
        cache.tables[static_cast<size_t>(sequence)]
                    [static_cast<size_t>(position) / static_cast<size_t>(shape_.block_size)];
    for (int32_t part = 0; part < 2; ++part) {
      for (int32_t head = 0; head < shape_.num_kv_heads; ++head) {
        const int64_t row = ((block * 2 + part) * shape_.num_kv_heads + head) * shape_.block_size +
                            position % shape_.block_size;
        std::copy_n(Kv(sequence, position, part, head), shape_.head_dim,
                    &cache.blocks[static_cast<size_t>(row * shape_.head_dim)]);
      }
    }
  }

  const AttentionShapeCase shape_;
  const std::vector<int32_t> lengths_;
  std::mt19937_64 random_;
  std::vector<std::vector<Bf16>> queries_;  // of each sequence: [tokens, num_heads, head_dim]
  std::vector<std::vector<Bf16>> kv_;       // of each: [tokens, 2, num_kv_heads, head_dim]
};

inline constexpr Bf16 kUntouched = {0x4321};

struct AttentionRun {
  AttentionKind kind = AttentionKind::kDecode;
  std::vector<RowsOfSequence> rows;
  // Added to what is the least that the launch must be told.
  int32_t more_rows = 0;
  int32_t more_positions = 0;
  int32_t more_sequences = 0;  // without rows
  uint64_t seed = 1;           // of the blocks' order
  int32_t key_range_log2 = kKeyRangeLog2;
};

class CudaAttentionTest : public CudaTest {
 protected:
  // [rows, num_heads, head_dim], and one row more, which nobody may touch.
  std::vector<Bf16> Run(AttentionWorld& world, const AttentionRun& run) {
    return Run(world, run, world.MakeCache(run.seed));
  }
  std::vector<Bf16> Run(AttentionWorld& world, const AttentionRun& run,
                        const AttentionWorld::Cache& cache) {
    const AttentionShapeCase& shape = world.shape();
    const int32_t width = shape.num_heads * shape.head_dim;
    const int64_t stride = width + 24;
    std::vector<Bf16> queries;
    std::vector<CudaSequence> sequences;
    std::vector<int32_t> tables;
    int32_t rows = 0;
    int32_t max_rows = run.more_rows;
    int32_t max_positions = run.more_positions;
    for (const RowsOfSequence& part : run.rows) {
      const std::vector<int32_t>& table = cache.tables[static_cast<size_t>(part.sequence)];
      sequences.push_back({.row_begin = rows,
                           .num_rows = part.num_rows,
                           .start_position = part.start_position,
                           .table_begin = static_cast<int32_t>(tables.size())});
      tables.insert(tables.end(), table.begin(), table.end());
      for (int32_t t = 0; t < part.num_rows; ++t) {
        const Bf16* query = world.Query(part.sequence, part.start_position + t, 0);
        queries.insert(queries.end(), query, query + width);
        queries.resize(queries.size() + 24, Bf16{0x7fc0});
      }
      rows += part.num_rows;
      max_rows = std::max(max_rows, part.num_rows + run.more_rows);
      max_positions =
          std::max(max_positions, part.start_position + part.num_rows + run.more_positions);
    }
    sequences.resize(sequences.size() + static_cast<size_t>(run.more_sequences));
    const DeviceArray<Bf16> device_queries = OnDevice(queries);
    const DeviceArray<CudaSequence> device_sequences = OnDevice(sequences);
    const DeviceArray<int32_t> device_tables = OnDevice(tables);
    DeviceArray<Bf16> device_cache = OnDevice(cache.blocks);
    DeviceArray<Bf16> output =
        OnDevice(std::vector<Bf16>(static_cast<size_t>((rows + 1) * width), kUntouched));
    const auto num_sequences = static_cast<int32_t>(sequences.size());
    DeviceArray<std::byte> scratch = OnDevice<std::byte>(
        DecodeAttentionScratchBytes(num_sequences * max_rows, shape.num_heads, shape.head_dim,
                                    max_positions, run.key_range_log2));
    const CudaAttentionArgs args{
        .queries = device_queries.data(),
        .row_stride = stride,
        .sequences = device_sequences.data(),
        .block_tables = device_tables.data(),
        .layer = ViewKvLayer(world.Layout(), reinterpret_cast<std::byte*>(device_cache.data())),
        .output = output.data(),
        .num_sequences = num_sequences,
        .num_heads = shape.num_heads,
        .window = shape.window,
        .scale = world.Scale(),
        .key_range_log2 = run.key_range_log2,
        .prefers_wgmma = run.kind == AttentionKind::kWgmmaPrefill,
        .max_rows = max_rows,
        .max_positions = max_positions,
        .scratch = scratch.data()};
    run.kind == AttentionKind::kDecode ? DecodeAttention(context(), args)
                                       : PrefillAttention(context(), args);
    return OnHost(output);
  }

  // Checks every `every`th row of each sequence, the first and the last against the exact result.
  void ExpectExact(AttentionWorld& world, const AttentionRun& run, const std::vector<Bf16>& output,
                   int32_t every = 1) {
    SCOPED_TRACE(world.shape());
    const int32_t heads = world.shape().num_heads;
    const int32_t head_dim = world.shape().head_dim;
    auto got = output.begin();
    for (const RowsOfSequence& part : run.rows) {
      for (int32_t t = 0; t < part.num_rows; ++t, got += heads * head_dim) {
        if (t % every != 0 && t != part.num_rows - 1) continue;
        for (int32_t head = 0; head < heads; ++head) {
          const std::vector<double> exact =
              world.Naive(part.sequence, part.start_position + t, head);
          for (int32_t i = 0; i < head_dim; ++i) {
            const double expected = exact[static_cast<size_t>(i)];
            // bf16 output, and weights that were rounded to bf16.
            ASSERT_NEAR(ToFloat(got[head * head_dim + i]), expected,
                        std::abs(expected) * 0x1p-8 + 0.004)
                << "sequence " << part.sequence << " position " << part.start_position + t
                << " head " << head << " dim " << i;
          }
        }
      }
    }
    EXPECT_EQ(std::count(got, output.end(), kUntouched), output.end() - got);
  }

  void Check(const AttentionShapeCase& shape, const std::vector<int32_t>& lengths,
             const AttentionRun& run, int32_t every = 1) {
    AttentionWorld world(shape, lengths);
    ExpectExact(world, run, Run(world, run), every);
  }
};

// Row `row` of an output of `run`.
inline std::vector<Bf16> RowOf(const std::vector<Bf16>& output, const AttentionShapeCase& shape,
                               int32_t row, int32_t num_rows = 1) {
  const int64_t width = int64_t{shape.num_heads} * shape.head_dim;
  return {output.begin() + row * width, output.begin() + (row + num_rows) * width};
}

// Which rows have a number that is not finite.
inline std::vector<bool> RowsWithNan(const std::vector<Bf16>& output,
                                     const AttentionShapeCase& shape, int32_t num_rows) {
  std::vector<bool> found;
  for (int32_t row = 0; row < num_rows; ++row) {
    const std::vector<Bf16> numbers = RowOf(output, shape, row);
    found.push_back(std::any_of(numbers.begin(), numbers.end(),
                                [](Bf16 x) { return !std::isfinite(ToFloat(x)); }));
  }
  return found;
}

}  // namespace baton
