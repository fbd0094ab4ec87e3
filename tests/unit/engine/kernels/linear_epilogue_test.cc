// What products end in: the bits of the bare product and of what follows it, one after the other.
#include <cmath>
#include <cstring>

#include "engine/kernels/linear.h"
#include "tests/unit/engine/kernels/op_harness.h"

namespace baton {
namespace {

// e^x step by step as vec_math.h has it.
float ReferenceExp(float x) {
  if (x < -87.3f) return 0;
  const float bounded = std::min(x, 88.0f);
  const float n = std::nearbyint(bounded * 1.44269504088896341f);
  const float r = std::fma(-n, -2.12194440e-4f, std::fma(-n, 0.693359375f, bounded));
  float p = 1.9875691500e-4f;
  for (const float next :
       {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) {
    p = std::fma(p, r, next);
  }
  return std::ldexp(std::fma(p, r * r, r) + 1.0f, static_cast<int>(n));
}

struct Product {
  const PackedMatrix& matrix;
  const std::vector<float>& input;
  int32_t rows = 0;
  int threads = 1;
};

class LinearEpilogueTest : public OpTest {
 protected:
  static constexpr size_t kGuards = 64;  // numbers behind the output that stay as they are

  std::vector<WeightElement> Elements() const {
    return {table().pack.element, WeightElement::kInt8, WeightElement::kInt4};
  }
  size_t OutputBytes(Epilogue epilogue) const {
    return epilogue == Epilogue::kSiluMul ? static_cast<size_t>(ActivationBytes(table().activation))
                                          : sizeof(float);
  }

  void Run(const Product& product, Epilogue epilogue, AlignedBuffer* output) {
    const AlignedBuffer activations = ToActivations(product.input);
    AlignedBuffer scratch;
    std::byte* guards = output->data() + output->size() - kGuards * OutputBytes(epilogue);
    std::memset(guards, 0x5a, kGuards * OutputBytes(epilogue));
    Linear(context(product.threads), {.input = activations.data(),
                                      .weights = &product.matrix,
                                      .epilogue = epilogue,
                                      .output = output->data(),
                                      .rows = product.rows,
                                      .scratch = &scratch});
    EXPECT_TRUE(std::all_of(guards, output->data() + output->size(),
                            [](std::byte guard) { return guard == std::byte{0x5a}; }));
  }
  std::vector<float> Stored(const Product& product) {
    const size_t count = static_cast<size_t>(product.rows) * product.matrix.n();
    AlignedBuffer output((count + kGuards) * sizeof(float));
    Run(product, Epilogue::kStore, &output);
    return {output.As<float>(), output.As<float>() + count};
  }
  std::vector<float> AddedTo(const std::vector<float>& before, const Product& product) {
    AlignedBuffer output((before.size() + kGuards) * sizeof(float));
    std::copy(before.begin(), before.end(), output.As<float>());
    Run(product, Epilogue::kAddTo, &output);
    return {output.As<float>(), output.As<float>() + before.size()};
  }
  std::vector<float> Gated(const Product& product) {
    const size_t count = static_cast<size_t>(product.rows) * product.matrix.n() / 2;
    AlignedBuffer output((count + kGuards) * OutputBytes(Epilogue::kSiluMul));
    Run(product, Epilogue::kSiluMul, &output);
    std::vector<float> values(count);
    for (size_t i = 0; i < count; ++i) values[i] = Activation(output, i);
    return values;
  }

  // silu(gate) * up of a bare product, rounded to the activation dtype.
  std::vector<float> ReferenceGated(const std::vector<float>& product) const {
    std::vector<float> values(product.size() / 2);
    for (size_t i = 0; i < values.size(); ++i) {
      const float gate = product[2 * i];
      const float value = gate / (1.0f + ReferenceExp(-gate)) * product[2 * i + 1];
      values[i] = bf16_activations() ? ToFloat(ToBf16(value)) : value;
    }
    return values;
  }

  // Calls check(matrix, input, rows) at sizes that are no multiples of anything, of some rows that
  // are multiplied all at once, and of more whose inputs are shared.
  template <typename Check>
  void ForOddSizes(const std::vector<int32_t>& columns, const Check& check) {
    for (const WeightElement element : Elements()) {
      for (const int32_t n : columns) {
        for (const int32_t k : {2, 34, 2100}) {
          PackedMatrix matrix =
              PackAs(element, RandomWeights(static_cast<size_t>(n) * k, 0.3f), n, k);
          if ((n + k) % 4 != 0) matrix.SetBias(Random(static_cast<size_t>(n)));
          for (const int32_t rows : {1, 5, k == 2100 ? 130 : 13}) {
            SCOPED_TRACE(testing::Message() << "element " << static_cast<int>(element) << " n " << n
                                            << " k " << k << " rows " << rows);
            check(matrix, RandomActivations(static_cast<size_t>(rows) * k), rows);
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
};

void ExpectSameBits(const std::vector<float>& actual, const std::vector<float>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(std::memcmp(&actual[i], &expected[i], sizeof(float)), 0)
        << "at " << i << ": " << actual[i] << " and " << expected[i];
  }
}

TEST_P(LinearEpilogueTest, AddToAddsTheProductToWhatIsThere) {
  ForOddSizes({1, 15, 17, 65, 130},
              [&](const PackedMatrix& matrix, const std::vector<float>& input, int32_t rows) {
                const Product product{matrix, input, rows};
                const std::vector<float> before = Random(static_cast<size_t>(rows) * matrix.n());
                std::vector<float> expected = Stored(product);
                for (size_t i = 0; i < expected.size(); ++i) expected[i] = before[i] + expected[i];
                ExpectSameBits(AddedTo(before, product), expected);
              });
}

TEST_P(LinearEpilogueTest, SiluMulHasTheBitsOfTheProductActivatedAfterwards) {
  ForOddSizes({2, 14, 16, 18, 30, 34, 46, 64, 82, 130},
              [&](const PackedMatrix& matrix, const std::vector<float>& input, int32_t rows) {
                const Product product{matrix, input, rows};
                ExpectSameBits(Gated(product), ReferenceGated(Stored(product)));
              });
}

TEST_P(LinearEpilogueTest, SiluMulEqualsItsDefinitionAlsoAtExtremes) {
  for (const int32_t width : {1, 16, 37}) {
    std::vector<float> weights = RandomWeights(size_t{4} * width, 3.0f);
    weights[0] = -1000.0f;  // the first gate, and the last one
    weights[size_t{4} * (width - 1)] = width == 1 ? -1000.0f : 1000.0f;
    const PackedMatrix matrix = Pack(weights, 2 * width, 2);
    const std::vector<float> input = {1.0f, 0.0f};
    const std::vector<float> output = Gated({matrix, input, 1});
    for (int32_t i = 0; i < width; ++i) {
      const double gate = weights[size_t{4} * i];
      const double exact = gate / (1.0 + std::exp(-gate)) * weights[size_t{4} * i + 2];
      ASSERT_NEAR(output[i], exact, ActivationTolerance(exact)) << width << " at " << i;
    }
  }
}

// Sampling refuses logits with a NaN: an epilogue must not make a number of one.
TEST_P(LinearEpilogueTest, WhatIsNotANumberStaysSo) {
  constexpr int32_t kN = 70, kK = 96, kRows = 4;
  for (const WeightElement element : Elements()) {
    for (const int32_t bad : {20, 21, 69}) {  // a gate, an up, the very last up
      std::vector<float> weights = RandomWeights(size_t{kN} * kK);
      weights[bad * kK + 50] = NAN;
      const PackedMatrix matrix = PackAs(element, weights, kN, kK);
      const std::vector<float> input = RandomActivations(size_t{kRows} * kK);
      const std::vector<float> gated = Gated({matrix, input, kRows});
      for (size_t i = 0; i < gated.size(); ++i) {
        ASSERT_EQ(std::isnan(gated[i]), i % (kN / 2) == static_cast<size_t>(bad / 2)) << i;
      }
      const std::vector<float> added =
          AddedTo(std::vector<float>(size_t{kRows} * kN, 1.0f), {matrix, input, kRows});
      for (size_t i = 0; i < added.size(); ++i) {
        ASSERT_EQ(std::isnan(added[i]), i % kN == static_cast<size_t>(bad)) << i;
      }
    }
  }
}

TEST_P(LinearEpilogueTest, ARowHasTheSameBitsForEveryNumberOfRowsAndThreads) {
  constexpr int32_t kMaxRows = 200, kN = 330;
  for (const WeightElement element : Elements()) {
    for (const int32_t k : {66, 2100}) {
      const PackedMatrix matrix = PackAs(element, RandomWeights(size_t{kN} * k, 0.1f), kN, k);
      const std::vector<float> input = RandomActivations(size_t{kMaxRows} * k);
      const std::vector<float> before = Random(size_t{kMaxRows} * kN);
      const std::vector<float> all_gated = Gated({matrix, input, kMaxRows, 2});
      const std::vector<float> all_added = AddedTo(before, {matrix, input, kMaxRows, 2});
      for (const int32_t rows : {1, 4, 11, 191, 192, 193}) {
        const std::vector<float> some(input.begin(), input.begin() + rows * k);
        const std::vector<float> some_before(before.begin(), before.begin() + rows * kN);
        const Product product{matrix, some, rows, 1 + rows % 3};
        ExpectSameBits(Gated(product),
                       {all_gated.begin(), all_gated.begin() + int64_t{rows} * kN / 2});
        ExpectSameBits(AddedTo(some_before, product),
                       {all_added.begin(), all_added.begin() + int64_t{rows} * kN});
      }
    }
  }
}

// Enough panels that a thread takes them in several groups, each in shares of k.
TEST_P(LinearEpilogueTest, ManyPanelsInSharesOfKHaveTheSameBits) {
  constexpr int32_t kRows = 140, kK = 2052;
  const int32_t n = 85 * table().pack.panel_columns + 2;
  const PackedMatrix matrix = Pack(RandomWeights(static_cast<size_t>(n) * kK, 0.1f), n, kK);
  const std::vector<float> input = RandomActivations(size_t{kRows} * kK);
  const std::vector<float> stored = Stored({matrix, input, kRows});
  ExpectSameBits(Gated({matrix, input, kRows}), ReferenceGated(stored));
  for (const int32_t row : {0, 77, 139}) {
    const std::vector<float> one(input.begin() + row * kK, input.begin() + (row + 1) * kK);
    const auto expected = stored.begin() + int64_t{row} * n;
    ExpectSameBits(Stored({matrix, one, 1}), {expected, expected + n});
  }
}

INSTANTIATE_TEST_SUITE_P(All, LinearEpilogueTest, testing::ValuesIn(AllTables()), TableName);

}  // namespace
}  // namespace baton
