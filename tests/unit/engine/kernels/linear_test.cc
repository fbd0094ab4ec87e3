#include "engine/kernels/linear.h"

#include <numeric>

#include "tests/unit/engine/kernels/linear_harness.h"

namespace baton {
namespace {

class LinearTest : public LinearOpTest {};

TEST_P(LinearTest, EqualsANaiveProductAtOddSizes) {
  for (const int32_t n : {1, 15, 16, 17, 63, 64, 65, 130, 200}) {
    for (const int32_t k : {2, 6, 34, 64, 130, 2046, 2050, 4100}) {
      const std::vector<float> weights = RandomWeights(static_cast<size_t>(n) * k, 0.3f);
      PackedMatrix matrix = Pack(weights, n, k);
      const bool with_bias = (n + k) % 3 != 0;
      const std::vector<float> bias = Random(static_cast<size_t>(n));
      if (with_bias) matrix.SetBias(bias);
      for (const int32_t rows : {1, 5, 7, 13}) {
        const std::vector<float> input = RandomActivations(static_cast<size_t>(rows) * k);
        const std::vector<float> output = Run(matrix, input, rows);
        for (int32_t r = 0; r < rows; ++r) {
          for (int32_t c = 0; c < n; ++c) {
            double exact = with_bias ? bias[c] : 0.0;
            double magnitude = std::abs(exact);
            for (int32_t i = 0; i < k; ++i) {
              const double term = double{input[r * k + i]} * weights[c * k + i];
              exact += term;
              magnitude += std::abs(term);
            }
            ASSERT_NEAR(output[r * n + c], exact, 1e-6 * magnitude + 1e-6)
                << "n " << n << " k " << k << " rows " << rows << " at " << r << ", " << c;
          }
        }
      }
    }
  }
}

TEST_P(LinearTest, ARowHasTheSameBitsForEveryNumberOfRowsAndThreads) {
  struct Shape {
    int32_t n;
    int32_t k;
  };
  for (const Shape shape : {Shape{130, 66}, Shape{320, 2100}, Shape{64, 4130}, Shape{1000, 48}}) {
    constexpr int32_t kMaxRows = 133;
    std::vector<int32_t> row_counts(kMaxRows);
    std::iota(row_counts.begin(), row_counts.end(), 1);
    const PackedMatrix matrix =
        Pack(RandomWeights(static_cast<size_t>(shape.n) * shape.k), shape.n, shape.k);
    const std::vector<float> input = RandomActivations(size_t{kMaxRows} * shape.k);
    ExpectBitsOfEachRowAlone(matrix, input, row_counts);
  }
}

TEST_P(LinearTest, MoreRowsThanOneTileHaveTheSameBits) {
  const PackedMatrix matrix = Pack(RandomWeights(90 * 130), 90, 130);
  const std::vector<float> input = RandomActivations(500 * 130);
  const std::vector<float> all = Run(matrix, input, 500, 2);
  for (const int32_t row : {0, 191, 192, 193, 383, 384, 499}) {
    const std::vector<float> one(input.begin() + row * 130, input.begin() + (row + 1) * 130);
    const std::vector<float> output = Run(matrix, one, 1);
    EXPECT_EQ(std::memcmp(output.data(), all.data() + row * 90, 90 * sizeof(float)), 0) << row;
  }
}

TEST_P(LinearTest, EmbeddingReadsRowsBackOutOfThePanels) {
  const int32_t width = 70;
  const std::vector<float> weights = RandomWeights(size_t{149} * width);
  const PackedMatrix matrix = Pack(weights, 149, width);
  ExpectEmbeddingReads(matrix, weights);
}

INSTANTIATE_TEST_SUITE_P(All, LinearTest, testing::ValuesIn(AllTables()), TableName);

}  // namespace
}  // namespace baton
