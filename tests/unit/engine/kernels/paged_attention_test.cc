#include "engine/kernels/paged_attention.h"

#include <numeric>

#include "tests/unit/engine/kernels/kv_reference.h"
#include "tests/unit/engine/kernels/op_harness.h"

namespace baton {
namespace {

struct Shape {
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t head_dim;
  int32_t window;
  int32_t block_size;
};

class PagedAttentionTest : public OpTest {
 protected:
  // Element of a block: part 0 is K, 1 is V.
  static size_t CacheIndex(const Shape& s, BlockId block, int32_t part, int32_t head,
                           int32_t offset) {
    return (((size_t(block.value()) * 2 + part) * s.num_kv_heads + head) * s.block_size + offset) *
           s.head_dim;
  }

  // The exact result of one head of one row.
  static std::vector<double> Naive(const Shape& s, const float* query,
                                   const std::vector<float>& cache,
                                   const std::vector<BlockId>& blocks, int32_t position,
                                   int32_t kv_head) {
    const int32_t first = s.window == 0 ? 0 : std::max(0, position - s.window + 1);
    std::vector<double> scores;
    for (int32_t p = first; p <= position; ++p) {
      const float* key =
          &cache[CacheIndex(s, blocks[p / s.block_size], 0, kv_head, p % s.block_size)];
      double score = 0;
      for (int32_t i = 0; i < s.head_dim; ++i) score += double{query[i]} * key[i];
      scores.push_back(score / std::sqrt(double(s.head_dim)));
    }
    const double maximum = *std::max_element(scores.begin(), scores.end());
    std::vector<double> result(s.head_dim, 0.0);
    double sum = 0;
    for (int32_t p = first; p <= position; ++p) {
      const double weight = std::exp(scores[p - first] - maximum);
      const float* value =
          &cache[CacheIndex(s, blocks[p / s.block_size], 1, kv_head, p % s.block_size)];
      for (int32_t i = 0; i < s.head_dim; ++i) result[i] += weight * value[i];
      sum += weight;
    }
    for (double& x : result) x /= sum;
    return result;
  }

  void Check(const Shape& s, bool int8_cache = false, int32_t longest = 130) {
    SCOPED_TRACE(testing::Message()
                 << s.num_heads << "/" << s.num_kv_heads << " heads of " << s.head_dim
                 << ", window " << s.window << ", block size " << s.block_size);
    const KvLayout layout{.num_layers = 1,
                          .num_kv_heads = s.num_kv_heads,
                          .head_dim = s.head_dim,
                          .block_size = s.block_size,
                          .dtype = int8_cache ? KvDtype::kInt8 : cache_dtype()};
    const int32_t lengths[] = {1, 64, 65, longest, 40};
    const int32_t new_tokens[] = {1, 64, 1, 33, 17};
    const int32_t max_blocks = BlocksFor(s, longest);
    const int32_t num_blocks = 5 * max_blocks;
    std::vector<float> cache = RandomWeights(CacheIndex(s, BlockId(num_blocks), 0, 0, 0), 1.0f);
    std::vector<int32_t> order(num_blocks);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random_);
    std::vector<std::vector<BlockId>> tables(5);
    std::vector<AttentionSequence> sequences;
    int32_t rows = 0;
    for (int i = 0; i < 5; ++i) {
      for (int32_t b = 0; b < BlocksFor(s, lengths[i]); ++b) {
        tables[i].emplace_back(order.back());
        order.pop_back();
      }
      sequences.push_back({.row_begin = rows,
                           .num_rows = new_tokens[i],
                           .start_position = lengths[i] - new_tokens[i],
                           .block_table = tables[i]});
      rows += new_tokens[i];
    }
    const int64_t stride = int64_t{s.num_heads} * s.head_dim + 3;
    std::vector<float> queries = Random(static_cast<size_t>(rows * stride), 2.0f);
    if (bf16_activations()) {
      for (float& x : queries) x = ToFloat(ToBf16(x));
    }
    AlignedBuffer stored(static_cast<size_t>(num_blocks * layout.BlockBytes()));
    const auto width = static_cast<size_t>(s.head_dim);
    for (size_t row = 0; row < cache.size() / width; ++row) {
      std::byte* bytes = stored.data() + static_cast<int64_t>(row) * layout.RowBytes();
      const std::span<float> values = std::span(cache).subspan(row * width, width);
      StoreKvRow(layout.dtype, values, bytes);
      const std::vector<float> kept = LoadKvRow(layout.dtype, s.head_dim, bytes);
      std::copy(kept.begin(), kept.end(), values.begin());
    }
    AlignedBuffer output(static_cast<size_t>(rows) * s.num_heads * s.head_dim * 4);
    AttentionPlan plan;
    PlanAttention(
        sequences,
        {.num_heads = s.num_heads, .num_kv_heads = s.num_kv_heads, .block_size = s.block_size},
        &plan);
    PagedAttention(context(2),
                   {.queries = queries.data(),
                    .row_stride = stride,
                    .sequences = sequences,
                    .layer = ViewKvLayer(layout, stored.data()),
                    .output = output.data(),
                    .num_heads = s.num_heads,
                    .window = s.window,
                    .scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim))},
                   plan);
    for (size_t q = 0; q < sequences.size(); ++q) {
      for (int32_t t = 0; t < sequences[q].num_rows; ++t) {
        const int32_t row = sequences[q].row_begin + t;
        for (int32_t h = 0; h < s.num_heads; ++h) {
          const std::vector<double> exact =
              Naive(s, &queries[row * stride + h * s.head_dim], cache, tables[q],
                    sequences[q].start_position + t, h / (s.num_heads / s.num_kv_heads));
          for (int32_t i = 0; i < s.head_dim; ++i) {
            const size_t at = (static_cast<size_t>(row) * s.num_heads + h) * s.head_dim + i;
            // With bf16 products the softmax weights are rounded to bf16 too.
            ASSERT_NEAR(Activation(output, at), exact[i], bf16_activations() ? 0.03 : 2e-5)
                << "sequence " << q << " token " << t << " head " << h << " dim " << i;
          }
        }
      }
    }
  }

  static int32_t BlocksFor(const Shape& s, int32_t tokens) {
    return (tokens + s.block_size - 1) / s.block_size;
  }
};

TEST_P(PagedAttentionTest, EqualsANaiveSoftmaxAtOddSizes) {
  for (const Shape& shape :
       {Shape{3, 3, 8, 0, 16}, Shape{5, 1, 16, 0, 8}, Shape{6, 2, 24, 0, 32},
        Shape{8, 1, 64, 0, 16}, Shape{20, 4, 64, 0, 16}, Shape{3, 1, 80, 0, 64},
        Shape{4, 1, 128, 0, 16}, Shape{2, 2, 256, 0, 128}, Shape{7, 7, 40, 0, 16}}) {
    Check(shape);
  }
}

TEST_P(PagedAttentionTest, AWindowHidesOlderPositions) {
  for (const int32_t window : {1, 2, 20, 63, 64, 65, 129, 500}) {
    Check({6, 2, 32, window, 16});
  }
}

TEST_P(PagedAttentionTest, AnInt8CacheHoldsWhatItsScalesSay) {
  for (const Shape& shape : {Shape{3, 3, 8, 0, 16}, Shape{6, 2, 24, 0, 32}, Shape{20, 4, 64, 0, 16},
                             Shape{3, 1, 80, 0, 64}, Shape{4, 1, 128, 70, 16}}) {
    Check(shape, true);
  }
}

TEST_P(PagedAttentionTest, KeysOfManyRangesAreOneSoftmax) {
  for (const int32_t longest : {kKeyRange, kKeyRange + 1, 2 * kKeyRange + 90}) {
    for (const int32_t window : {0, 40, kKeyRange + 50}) {
      Check({6, 2, 24, window, 16}, false, longest);
    }
  }
}

// More heads in a group than rows in one unit of work.
TEST_P(PagedAttentionTest, LargeGroupsAreCut) { Check({70, 1, 16, 0, 16}); }

// One number of one key or value: all rows that see it are NaN, as without a kernel that skips.
TEST_P(PagedAttentionTest, ANanInTheCacheIsNotForgotten) {
  const KvLayout layout{.num_layers = 1, .num_kv_heads = 1, .head_dim = 32, .dtype = cache_dtype()};
  const std::vector<BlockId> table = {BlockId(0), BlockId(1)};
  for (const int32_t part : {0, 1}) {
    AlignedBuffer cache(static_cast<size_t>(2 * layout.BlockBytes()));
    std::vector<float> row = Random(32);
    row[5] = NAN;
    StoreKvRow(layout.dtype, row, cache.data() + (part * 16 + 3) * layout.RowBytes());
    const std::vector<AttentionSequence> sequences = {
        {.row_begin = 0, .num_rows = 20, .start_position = 0, .block_table = table}};
    AttentionPlan plan;
    PlanAttention(sequences, {.num_heads = 1, .num_kv_heads = 1, .block_size = 16}, &plan);
    const std::vector<float> queries = Random(20 * 32);
    AlignedBuffer output(size_t{20} * 32 * 4);
    PagedAttention(context(),
                   {.queries = queries.data(),
                    .row_stride = 32,
                    .sequences = sequences,
                    .layer = ViewKvLayer(layout, cache.data()),
                    .output = output.data(),
                    .num_heads = 1,
                    .scale = 1.0f},
                   plan);
    for (size_t token = 3; token < 20; ++token) {
      EXPECT_TRUE(std::isnan(Activation(output, token * 32 + 5))) << part << " " << token;
    }
  }
}

TEST(PlanAttentionTest, CoversEveryTokenAndHeadOnce) {
  for (const auto& [heads, kv_heads] : {std::pair(20, 4), {1, 1}, {70, 1}, {200, 2}, {3, 3}}) {
    const std::vector<AttentionSequence> sequences = {{.row_begin = 0, .num_rows = 1},
                                                      {.row_begin = 1, .num_rows = 150},
                                                      {.row_begin = 151, .num_rows = 13}};
    AttentionPlan plan;
    PlanAttention(sequences, {.num_heads = heads, .num_kv_heads = kv_heads, .block_size = 16},
                  &plan);
    std::vector<int> seen(static_cast<size_t>(164 * heads), 0);
    const int32_t group = heads / kv_heads;
    for (const AttentionTask& task : plan.tasks) {
      EXPECT_LE((task.token_end - task.token_begin) * (task.head_end - task.head_begin),
                kAttentionRows);
      EXPECT_EQ(task.head_begin / group, (task.head_end - 1) / group);
      for (int32_t t = task.token_begin; t < task.token_end; ++t) {
        for (int32_t h = task.head_begin; h < task.head_end; ++h) {
          ++seen[static_cast<size_t>((sequences[task.sequence].row_begin + t) * heads + h)];
        }
      }
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), static_cast<int64_t>(seen.size()));
  }
}

INSTANTIATE_TEST_SUITE_P(All, PagedAttentionTest, testing::ValuesIn(AllTables()), TableName);

}  // namespace
}  // namespace baton
