// Shared by the tests of Linear, whatever its weights are.
#pragma once

#include <span>

#include "engine/kernels/embedding.h"
#include "engine/kernels/linear.h"
#include "tests/unit/engine/kernels/op_harness.h"

namespace baton {

class LinearOpTest : public OpTest {
 protected:
  std::vector<float> Run(const PackedMatrix& matrix, const std::vector<float>& input, int32_t rows,
                         int threads = 1) {
    const AlignedBuffer activations = ToActivations(input);
    AlignedBuffer scratch;
    // Guard numbers behind the output: padding columns must not be written.
    std::vector<float> output(static_cast<size_t>(rows) * matrix.n() + 64, -7.0f);
    Linear(context(threads), {.input = activations.data(),
                              .weights = &matrix,
                              .output = output.data(),
                              .rows = rows,
                              .scratch = &scratch});
    for (size_t i = output.size() - 64; i < output.size(); ++i) EXPECT_EQ(output[i], -7.0f);
    output.resize(output.size() - 64);
    return output;
  }

  // The first rows of `input`, as many as each of `row_counts` says, give what each gives alone.
  void ExpectBitsOfEachRowAlone(const PackedMatrix& matrix, const std::vector<float>& input,
                                std::span<const int32_t> row_counts) {
    const int32_t k = matrix.k();
    std::vector<float> expected;
    for (size_t row = 0; row < input.size() / k; ++row) {
      const std::vector<float> one(input.begin() + row * k, input.begin() + (row + 1) * k);
      const std::vector<float> output = Run(matrix, one, 1);
      expected.insert(expected.end(), output.begin(), output.end());
    }
    for (const int32_t rows : row_counts) {
      const std::vector<float> some(input.begin(), input.begin() + int64_t{rows} * k);
      const std::vector<float> output = Run(matrix, some, rows, 1 + rows % 2);
      ASSERT_EQ(std::memcmp(output.data(), expected.data(), output.size() * sizeof(float)), 0)
          << "n " << matrix.n() << " k " << k << " rows " << rows;
    }
  }

  // `matrix`: at least 149 rows, of the weights [n, k].
  void ExpectEmbeddingReads(const PackedMatrix& matrix, const std::vector<float>& weights) {
    const int32_t width = matrix.k();
    const std::vector<TokenId> tokens = {0, 148, 63, 64, 65, 127, 128, 63};
    std::vector<float> output(tokens.size() * width);
    Embedding(context(2), {.table = &matrix, .tokens = tokens, .output = output.data()});
    for (size_t t = 0; t < tokens.size(); ++t) {
      for (int32_t i = 0; i < width; ++i) {
        ASSERT_EQ(output[t * width + i], weights[tokens[t] * width + i]) << t << " " << i;
      }
    }
  }
};

}  // namespace baton
