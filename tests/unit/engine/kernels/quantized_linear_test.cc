#include <cmath>
#include <cstring>

#include "engine/kernels/quantize.h"
#include "tests/unit/engine/kernels/linear_harness.h"

namespace baton {
namespace {

constexpr WeightElement kElements[] = {WeightElement::kInt8, WeightElement::kInt4};

std::vector<float> Unpacked(const PackedMatrix& matrix) {
  std::vector<float> weights(static_cast<size_t>(matrix.n()) * matrix.k());
  for (int32_t row = 0; row < matrix.n(); ++row) {
    matrix.UnpackRow(row, weights.data() + static_cast<size_t>(row) * matrix.k());
  }
  return weights;
}

// Rounded in groups of 32 to 255 levels, step by step as quantize.h says.
std::vector<double> Rounded(const std::vector<float>& input, int32_t rows, int32_t k) {
  std::vector<double> rounded;
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t begin = 0; begin < k; begin += kQuantGroup) {
      const int32_t end = std::min(k, begin + kQuantGroup);
      float most = 0;
      for (int32_t i = begin; i < end; ++i) most = std::max(most, std::abs(input[row * k + i]));
      for (int32_t i = begin; i < end; ++i) {
        const float inverse = most > 0 ? 127.0f / most : 0.0f;
        rounded.push_back(double{most / 127.0f} * std::nearbyint(input[row * k + i] * inverse));
      }
    }
  }
  return rounded;
}

class QuantizedLinearTest : public LinearOpTest {};

TEST_P(QuantizedLinearTest, EqualsANaiveProductOfTheRoundedNumbers) {
  for (const WeightElement element : kElements) {
    for (const int32_t n : {1, 15, 16, 33, 64, 65, 200}) {
      for (const int32_t k : {2, 30, 32, 34, 256, 290, 1056}) {
        PackedMatrix matrix =
            PackAs(element, RandomWeights(static_cast<size_t>(n) * k, 0.3f), n, k);
        const std::vector<float> weights = Unpacked(matrix);
        const std::vector<float> bias = Random(static_cast<size_t>(n));
        const bool with_bias = (n + k) % 3 != 0;
        if (with_bias) matrix.SetBias(bias);
        for (const int32_t rows : {1, 4, 5, 12}) {
          const std::vector<float> input = RandomActivations(static_cast<size_t>(rows) * k);
          const std::vector<double> rounded = Rounded(input, rows, k);
          const std::vector<float> output = Run(matrix, input, rows);
          for (int32_t r = 0; r < rows; ++r) {
            for (int32_t c = 0; c < n; ++c) {
              double exact = with_bias ? bias[c] : 0.0;
              double magnitude = std::abs(exact);
              for (int32_t i = 0; i < k; ++i) {
                const double term = rounded[r * k + i] * weights[c * k + i];
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
}

TEST_P(QuantizedLinearTest, ARowHasTheSameBitsForEveryNumberOfRowsAndThreads) {
  constexpr int32_t kMaxRows = 200;
  constexpr int32_t kN = 330, kK = 610;
  for (const WeightElement element : kElements) {
    const PackedMatrix matrix = PackAs(element, RandomWeights(size_t{kN} * kK), kN, kK);
    const std::vector<float> input = RandomActivations(size_t{kMaxRows} * kK);
    const int32_t row_counts[] = {2, 3, 4, 5, 6, 7, 31, 191, 192, 193, 200};
    ExpectBitsOfEachRowAlone(matrix, input, row_counts);
  }
}

TEST_P(QuantizedLinearTest, ExtremesDoNotOverflow) {
  // The largest products of both signs, all of the same sign: where 16-bit sums would saturate.
  constexpr int32_t kN = 70, kK = 64;
  for (const WeightElement element : kElements) {
    for (const float sign : {-1.0f, 1.0f}) {
      const PackedMatrix matrix =
          PackAs(element, std::vector<float>(size_t{kN} * kK, sign), kN, kK);
      const std::vector<float> output = Run(matrix, std::vector<float>(kK, 1.0f), 1);
      for (const float value : output) EXPECT_NEAR(value, sign * kK, 0.01 * kK);
    }
  }
}

// 127 / 1e-37 overflows: such a group is zeros, not a NaN.
TEST_P(QuantizedLinearTest, AGroupOfTinyActivationsIsZero) {
  constexpr int32_t kN = 70, kK = 64;
  for (const WeightElement element : kElements) {
    std::vector<float> input(kK, 1e-37f);
    std::fill(input.begin() + 32, input.end(), 1.0f);
    const PackedMatrix matrix = PackAs(element, std::vector<float>(size_t{kN} * kK, 1.0f), kN, kK);
    for (const float value : Run(matrix, input, 1)) EXPECT_NEAR(value, 32, 0.32);
  }
}

// Sampling refuses logits with a NaN. Rounding must not make numbers of them.
TEST_P(QuantizedLinearTest, WhatIsNotFiniteStaysSo) {
  constexpr int32_t kN = 70, kK = 96, kRows = 4;
  for (const WeightElement element : kElements) {
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      std::vector<float> input = RandomActivations(size_t{kRows} * kK);
      std::vector<float> weights = RandomWeights(size_t{kN} * kK);
      input[2 * kK + 50] = bad;
      std::vector<float> output = Run(PackAs(element, weights, kN, kK), input, kRows);
      for (size_t i = 0; i < output.size(); ++i) {
        ASSERT_EQ(std::isnan(output[i]), i / kN == 2) << bad << " input, output " << i;
      }
      input[2 * kK + 50] = 1;
      weights[33 * kK + 95] = bad;
      output = Run(PackAs(element, weights, kN, kK), input, kRows);
      for (size_t i = 0; i < output.size(); ++i) {
        ASSERT_EQ(std::isnan(output[i]), i % kN == 33) << bad << " weight, output " << i;
      }
    }
  }
}

TEST_P(QuantizedLinearTest, EmbeddingReadsRowsBackOutOfThePanels) {
  const int32_t width = 70;
  for (const WeightElement element : kElements) {
    const PackedMatrix matrix = PackAs(element, RandomWeights(size_t{149} * width), 149, width);
    ExpectEmbeddingReads(matrix, Unpacked(matrix));
  }
}

INSTANTIATE_TEST_SUITE_P(All, QuantizedLinearTest, testing::ValuesIn(AllTables()), TableName);

// Integers and one order of sums: no instruction set has bits of its own.
TEST(QuantizedLinear, AllInstructionSetsGiveTheSameBits) {
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal;
  constexpr int32_t kN = 130, kK = 320, kRows = 5;
  std::vector<float> weights(size_t{kN} * kK);
  std::vector<Bf16> input(size_t{kRows} * kK);  // f32 and bf16 hold the same numbers
  for (float& value : weights) value = normal(random);
  for (Bf16& value : input) value = ToBf16(normal(random));
  std::vector<float> f32_input;
  for (const Bf16 value : input) f32_input.push_back(ToFloat(value));
  auto pool = ComputePool::Create(1, {});
  for (const WeightElement element : kElements) {
    std::vector<float> first;
    for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16}) {
      if (isa > *BestIsa()) continue;
      const KernelTable& table = GetKernels(isa, /*f32=*/false);
      PackedMatrix matrix(kN, kK, table.PackOf(element));
      for (int32_t panel = 0; panel < matrix.num_panels(); ++panel) {
        std::vector<const float*> rows;
        const int32_t width = matrix.format().panel_columns;
        for (int32_t row = panel * width; row < std::min(kN, (panel + 1) * width); ++row) {
          rows.push_back(weights.data() + static_cast<size_t>(row) * kK);
        }
        matrix.PackPanel(panel, rows);
      }
      const bool bf16 = table.activation == ActivationDtype::kBf16;
      const void* activations = bf16 ? static_cast<const void*>(input.data()) : f32_input.data();
      std::vector<float> output(size_t{kRows} * kN);
      AlignedBuffer scratch;
      Linear({table, **pool}, {.input = activations,
                               .weights = &matrix,
                               .output = output.data(),
                               .rows = kRows,
                               .scratch = &scratch});
      if (first.empty()) first = output;
      EXPECT_EQ(std::memcmp(output.data(), first.data(), output.size() * sizeof(float)), 0)
          << IsaName(isa);
    }
  }
}

}  // namespace
}  // namespace baton
