#include "engine/kernels/linear.h"

#include "engine/kernels/embedding.h"
#include "tests/unit/engine/kernels/op_harness.h"

namespace baton {
namespace {

class LinearTest : public OpTest {
 protected:
  std::vector<float> Run(const PackedMatrix& matrix, const std::vector<float>& input, int32_t rows,
                         int threads = 1) {
    const AlignedBuffer activations = ToActivations(input);
    // Guard numbers behind the output: padding columns must not be written.
    std::vector<float> output(static_cast<size_t>(rows) * matrix.n() + 64, -7.0f);
    Linear(
        context(threads),
        {.input = activations.data(), .weights = &matrix, .output = output.data(), .rows = rows});
    for (size_t i = output.size() - 64; i < output.size(); ++i) EXPECT_EQ(output[i], -7.0f);
    output.resize(output.size() - 64);
    return output;
  }
};

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
    const PackedMatrix matrix =
        Pack(RandomWeights(static_cast<size_t>(shape.n) * shape.k), shape.n, shape.k);
    const std::vector<float> input = RandomActivations(size_t{kMaxRows} * shape.k);
    std::vector<float> expected;  // every row alone
    for (int32_t row = 0; row < kMaxRows; ++row) {
      const std::vector<float> one(input.begin() + row * shape.k,
                                   input.begin() + (row + 1) * shape.k);
      const std::vector<float> output = Run(matrix, one, 1);
      expected.insert(expected.end(), output.begin(), output.end());
    }
    for (int32_t rows = 1; rows <= kMaxRows; ++rows) {
      const std::vector<float> some(input.begin(), input.begin() + rows * shape.k);
      const std::vector<float> output = Run(matrix, some, rows, 1 + rows % 2);
      ASSERT_EQ(std::memcmp(output.data(), expected.data(), output.size() * sizeof(float)), 0)
          << "n " << shape.n << " k " << shape.k << " rows " << rows;
    }
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
  const std::vector<TokenId> tokens = {0, 148, 63, 64, 65, 127, 128, 63};
  std::vector<float> output(tokens.size() * width);
  Embedding(context(2), {.table = &matrix, .tokens = tokens, .output = output.data()});
  for (size_t t = 0; t < tokens.size(); ++t) {
    for (int32_t i = 0; i < width; ++i) {
      ASSERT_EQ(output[t * width + i], weights[tokens[t] * width + i]) << t << " " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, LinearTest, testing::ValuesIn(AllTables()), TableName);

}  // namespace
}  // namespace baton
