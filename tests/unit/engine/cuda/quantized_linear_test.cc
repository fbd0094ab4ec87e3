// Products with int8 and int4 weights against naive ones with the same levels and scales, which the
// CPU's format gives.
#include "engine/kernels/cuda/quantized_linear.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "engine/kernels/cuda/dequantize.h"
#include "engine/kernels/cuda/quantized_weights.h"
#include "engine/kernels/linear.h"
#include "tests/unit/engine/cuda/product_harness.h"

namespace baton {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Quantized {
  CudaMatrix matrix;
  std::vector<float> weights;  // [n, k]: scale * level, from the CPU's format
};

class QuantizedLinearTest : public ProductTest, public testing::WithParamInterface<WeightElement> {
 protected:
  // Neighbouring groups differ in size, so that no scale does for another.
  std::vector<float> RandomWeights(int32_t n, int32_t k) {
    std::vector<float> weights = Random(static_cast<size_t>(n) * k);
    for (int32_t row = 0; row < n; ++row) {
      for (int32_t group = 0; group < NumQuantGroups(k); ++group) {
        const float size = std::exp2(static_cast<float>(random_() % 5));
        for (int32_t i = group * kQuantGroup; i < std::min(k, (group + 1) * kQuantGroup); ++i) {
          weights[int64_t{row} * k + i] *= size;
        }
      }
    }
    return weights;
  }

  Quantized Quantize(const std::vector<float>& weights, int32_t n, int32_t k) {
    std::vector<const float*> rows;
    for (int32_t i = 0; i < n; ++i) rows.push_back(weights.data() + int64_t{i} * k);
    Quantized quantized = {.matrix = *CudaMatrix::Create(n, k, GetParam()),
                           .weights = std::vector<float>(weights.size())};
    std::vector<std::byte> tiles(quantized.matrix.packed().size());
    for (int32_t tile = 0; tile < NumQuantTiles(n); ++tile) {
      const int32_t first = tile * kQuantTileOutputs;
      const int32_t count = std::min(kQuantTileOutputs, n - first);
      PackQuantizedTile(GetParam(), std::span(rows).subspan(first, count), k,
                        tiles.data() + tile * QuantTileBytes(GetParam(), k));
    }
    Upload(context(), tiles, &quantized.matrix.packed());
    const PackFormat format = GetKernels(Isa::kAvx2, /*f32=*/false).PackOf(GetParam());
    PackedMatrix packed(n, k, format);
    for (int32_t panel = 0; panel < packed.num_panels(); ++panel) {
      const int32_t first = panel * format.panel_columns;
      packed.PackPanel(panel, std::span<const float* const>(rows).subspan(
                                  first, std::min(format.panel_columns, n - first)));
    }
    for (int32_t i = 0; i < n; ++i) {
      packed.UnpackRow(i, quantized.weights.data() + int64_t{i} * k);
    }
    return quantized;
  }
  Quantized RandomMatrix(int32_t n, int32_t k) { return Quantize(RandomWeights(n, k), n, k); }

  // Runs one product with random input, and compares.
  void ExpectProduct(CudaLinear& linear, const Quantized& quantized, int32_t rows,
                     CudaEpilogue epilogue, const std::vector<float>& bias) {
    const int32_t n = quantized.matrix.n();
    const int32_t k = quantized.matrix.k();
    const std::vector<Bf16> input = RandomBf16(static_cast<size_t>(rows) * k);
    const std::vector<float> before = Random(static_cast<size_t>(rows) * n);
    const DeviceArray<Bf16> device_input = OnDevice(input);
    DeviceArray<float> f32_output = OnDevice(before);
    DeviceArray<Bf16> bf16_output = OnDevice<Bf16>(before.size());
    const bool bf16 = epilogue == CudaEpilogue::kStoreBf16;
    const bool by_library = rows > kMaxQuantizedRows;
    linear.Run({.input = device_input.data(),
                .weights = &quantized.matrix,
                .epilogue = epilogue,
                .output = bf16 ? static_cast<void*>(bf16_output.data()) : f32_output.data(),
                .rows = rows});
    const std::vector<float> f32 = OnHost(f32_output);
    const std::vector<Bf16> rounded = bf16 ? OnHost(bf16_output) : std::vector<Bf16>();
    for (int32_t row = 0; row < rows; ++row) {
      for (int32_t i = 0; i < n; ++i) {
        const size_t at = static_cast<size_t>(row) * n + i;
        double exact = epilogue == CudaEpilogue::kAddToF32 ? before[at] : 0.0;
        if (!bias.empty()) exact += bf16 && by_library ? ToFloat(ToBf16(bias[i])) : bias[i];
        double size = std::abs(exact);
        for (int32_t j = 0; j < k; ++j) {
          const double product =
              double{ToFloat(input[int64_t{row} * k + j])} * quantized.weights[int64_t{i} * k + j];
          exact += product;
          size += std::abs(product);
        }
        // Sums in f32; weights that the library gets are rounded to bf16.
        const double tolerance =
            size * (by_library ? 0x1p-8 : 0x1p-18) + (bf16 ? Bf16Tolerance(exact) : 0.0);
        ASSERT_NEAR(bf16 ? ToFloat(rounded[at]) : f32[at], exact, tolerance)
            << n << " " << k << " " << rows << " at " << row << " " << i;
      }
    }
  }
};

TEST_P(QuantizedLinearTest, WeightsAreThoseOfTheCpuBitForBit) {
  constexpr int32_t kVocab = 40;
  std::vector<TokenId> tokens(kVocab);
  for (int32_t i = 0; i < kVocab; ++i) tokens[i] = kVocab - 1 - i;
  for (const int32_t width : {8, 40, 136, 1160}) {
    const Quantized quantized = RandomMatrix(kVocab, width);
    const DeviceArray<TokenId> device_tokens = OnDevice(tokens);
    DeviceArray<float> output = OnDevice<float>(quantized.weights.size());
    QuantizedEmbedding(context(), {.table = &quantized.matrix,
                                   .tokens = device_tokens.data(),
                                   .output = output.data(),
                                   .rows = kVocab});
    const std::vector<float> found = OnHost(output);
    for (size_t i = 0; i < found.size(); ++i) {
      const size_t row = kVocab - 1 - i / width;
      ASSERT_EQ(found[i], quantized.weights[row * width + i % width]) << width << " at " << i;
    }
  }
}

// A rank's table: of other tokens there are zeros, which the sum over the ranks replaces.
TEST_P(QuantizedLinearTest, APartOfTheTableHasTheRowsOfItsTokens) {
  constexpr int32_t kFirst = 40, kCount = 24, kWidth = 136;
  const Quantized quantized = RandomMatrix(kCount, kWidth);
  const std::vector<TokenId> tokens = {39, 40, 63, 64, 0, 52, 1000};
  const DeviceArray<TokenId> device_tokens = OnDevice(tokens);
  DeviceArray<float> output = OnDevice<float>(tokens.size() * kWidth);
  QuantizedEmbedding(context(), {.table = &quantized.matrix,
                                 .first_token = kFirst,
                                 .tokens = device_tokens.data(),
                                 .output = output.data(),
                                 .rows = static_cast<int32_t>(tokens.size())});
  const std::vector<float> found = OnHost(output);
  for (size_t i = 0; i < found.size(); ++i) {
    const int32_t row = tokens[i / kWidth] - kFirst;
    const bool has = row >= 0 && row < kCount;
    const size_t at = static_cast<size_t>(row) * kWidth + i % kWidth;
    ASSERT_EQ(found[i], has ? quantized.weights[at] : 0.0f) << tokens[i / kWidth];
  }
}

TEST_P(QuantizedLinearTest, MultipliesAsTheNaiveProduct) {
  CudaLinear linear(context());
  for (const ProductShape& shape :
       {ProductShape{8, 8, 1}, ProductShape{24, 40, 3}, ProductShape{16, 128, 8},
        ProductShape{40, 136, 9}, ProductShape{8, 1160, 2}, ProductShape{56, 264, 17},
        ProductShape{24, 96, 64}}) {
    const Quantized quantized = RandomMatrix(shape.n, shape.k);
    for (const CudaEpilogue epilogue : kEpilogues) {
      ExpectProduct(linear, quantized, shape.rows, epilogue, {});
    }
  }
}

TEST_P(QuantizedLinearTest, BiasIsAdded) {
  CudaLinear linear(context());
  Quantized quantized = RandomMatrix(24, 72);
  const std::vector<float> bias = Random(24, 8.0f);
  ASSERT_TRUE(quantized.matrix.SetBias(context(), bias).ok());
  for (const int32_t rows : {1, 12, 65}) {
    for (const CudaEpilogue epilogue : kEpilogues) {
      ExpectProduct(linear, quantized, rows, epilogue, bias);
    }
  }
}

// By our kernel, and by the library, some outputs at a time.
TEST_P(QuantizedLinearTest, GatedProductsHaveTheBitsOfThoseGatedAfterwards) {
  CudaLinear linear(context(), {.scratch_bytes = 1});
  const std::vector<int32_t> many = {70};
  for (const ProductShape& shape : {ProductShape{8, 8, 1}, ProductShape{40, 136, 12},
                                    ProductShape{56, 264, 40}, ProductShape{264, 24, 70}}) {
    Quantized quantized = RandomMatrix(shape.n, shape.k);
    if (shape.rows == 70) {
      ASSERT_TRUE(linear.TunePlans(quantized.matrix, CudaEpilogue::kSiluMul, many).ok());
    }
    for (const bool biased : {false, true}) {
      const std::vector<float> bias = Random(static_cast<size_t>(shape.n), 8.0f);
      if (biased) BATON_CHECK_OK(quantized.matrix.SetBias(context(), bias));
      ExpectGatedAlike(quantized.matrix, shape.rows,
                       [&](const CudaLinearArgs& args) { linear.Run(args); });
    }
  }
}

TEST_P(QuantizedLinearTest, ARowHasTheSameBitsInAnyNumberOfRows) {
  constexpr int32_t kN = 40;
  constexpr int32_t kK = 1416;  // more chunks than warps, and not as many for each
  const Quantized quantized = RandomMatrix(kN, kK);
  const DeviceArray<Bf16> input = OnDevice(RandomBf16(size_t{kMaxQuantizedRows} * kK));
  const auto run = [&](int32_t begin, int32_t rows) {
    DeviceArray<float> output = OnDevice<float>(static_cast<size_t>(rows) * kN);
    QuantizedLinear(context(), {.input = input.data() + int64_t{begin} * kK,
                                .weights = &quantized.matrix,
                                .epilogue = CudaEpilogue::kStoreF32,
                                .output = output.data(),
                                .rows = rows});
    return OnHost(output);
  };
  const std::vector<float> all = run(0, kMaxQuantizedRows);
  for (const auto& [begin, rows] : std::vector<std::pair<int32_t, int32_t>>{
           {0, 1}, {13, 1}, {3, 7}, {8, 8}, {1, 9}, {5, 16}, {2, 17}, {9, 33}, {0, 63}}) {
    const std::vector<float> some = run(begin, rows);
    EXPECT_EQ(std::memcmp(some.data(), all.data() + int64_t{begin} * kN, some.size() * 4), 0)
        << rows << " rows from " << begin;
  }
}

// Where products are to be batch-invariant the library gets none of them.
TEST_P(QuantizedLinearTest, ARowHasTheSameBitsInMoreRowsWhereItIsToBeInvariant) {
  constexpr int32_t kN = 40;
  constexpr int32_t kK = 392;
  constexpr int32_t kRows = 131;
  const Quantized quantized = RandomMatrix(kN, kK);
  const DeviceArray<Bf16> input = OnDevice(RandomBf16(size_t{kRows} * kK));
  const std::vector<int32_t> tuned = {kRows};
  CudaLinear linear(context(), {.batch_invariant = true});
  ASSERT_TRUE(linear.Reserve(quantized.matrix, kRows).ok());
  ASSERT_TRUE(linear.TunePlans(quantized.matrix, CudaEpilogue::kStoreF32, tuned).ok());
  EXPECT_EQ(linear.scratch_bytes(), 0);
  const auto run = [&](int32_t begin, int32_t rows) {
    DeviceArray<float> output = OnDevice<float>(static_cast<size_t>(rows) * kN);
    linear.Run({.input = input.data() + int64_t{begin} * kK,
                .weights = &quantized.matrix,
                .epilogue = CudaEpilogue::kStoreF32,
                .output = output.data(),
                .rows = rows});
    return OnHost(output);
  };
  const std::vector<float> all = run(0, kRows);
  for (const auto& [begin, rows] : std::vector<std::pair<int32_t, int32_t>>{
           {0, 1}, {130, 1}, {60, 9}, {67, 64}, {3, 65}, {1, 128}}) {
    const std::vector<float> some = run(begin, rows);
    EXPECT_EQ(std::memcmp(some.data(), all.data() + int64_t{begin} * kN, some.size() * 4), 0)
        << rows << " rows from " << begin;
  }
}

// Above kMaxQuantizedRows: with scratch for 128 outputs they take two turns, of 128 and 8.
TEST_P(QuantizedLinearTest, ManyRowsTakeOutputsInTurnsWhereThereIsLittleScratch) {
  constexpr int32_t kN = 136;
  constexpr int32_t kK = 40;
  Quantized quantized = RandomMatrix(kN, kK);
  const std::vector<float> bias = Random(kN);
  ASSERT_TRUE(quantized.matrix.SetBias(context(), bias).ok());
  for (const size_t scratch_bytes : {size_t{1}, CudaLinearOptions().scratch_bytes}) {
    CudaLinear linear(context(), {.scratch_bytes = scratch_bytes});
    for (const CudaEpilogue epilogue : kEpilogues) {
      ExpectProduct(linear, quantized, 65, epilogue, bias);
    }
  }
}

TEST_P(QuantizedLinearTest, DequantizedWeightsAreRoundedOnce) {
  constexpr int32_t kN = 40;
  for (const int32_t k : {8, 40, 712}) {
    const Quantized quantized = RandomMatrix(kN, k);
    for (const auto& [begin, end] : {std::pair{0, kN}, std::pair{16, 32}, std::pair{32, kN}}) {
      DeviceArray<Bf16> output = OnDevice<Bf16>(static_cast<size_t>(end - begin) * k);
      Dequantize(
          context(),
          {.weights = &quantized.matrix, .begin = begin, .end = end, .output = output.data()});
      const std::vector<Bf16> found = OnHost(output);
      for (size_t i = 0; i < found.size(); ++i) {
        ASSERT_EQ(ToFloat(found[i]),
                  ToFloat(ToBf16(quantized.weights[static_cast<size_t>(begin) * k + i])))
            << k << " from " << begin << " at " << i;
      }
    }
  }
}

// And so does one where the input is not finite, in its own row.
TEST_P(QuantizedLinearTest, WeightsThatAreNotFiniteGiveNan) {
  constexpr int32_t kN = 24;
  constexpr int32_t kK = 72;
  std::vector<float> weights = RandomWeights(kN, kK);
  weights[17 * kK + 40] = kNan;
  const Quantized quantized = Quantize(weights, kN, kK);
  for (const int32_t rows : {2, 65}) {
    CudaLinear linear(context());
    std::vector<Bf16> numbers = RandomBf16(static_cast<size_t>(rows) * kK);
    numbers[kK + 3] = ToBf16(kNan);
    const DeviceArray<Bf16> input = OnDevice(numbers);
    DeviceArray<float> output = OnDevice<float>(static_cast<size_t>(rows) * kN);
    linear.Run({.input = input.data(),
                .weights = &quantized.matrix,
                .epilogue = CudaEpilogue::kStoreF32,
                .output = output.data(),
                .rows = rows});
    const std::vector<float> found = OnHost(output);
    for (int32_t i = 0; i < rows * kN; ++i) {
      EXPECT_EQ(std::isnan(found[i]), i % kN == 17 || i / kN == 1) << rows << " at " << i;
    }
  }
}

TEST_P(QuantizedLinearTest, TunedPlansGiveTheSameProduct) {
  const Quantized quantized = RandomMatrix(136, 24);
  CudaLinear linear(context(), {.scratch_bytes = 1});
  const std::vector<int32_t> rows = {4, 64, 70};
  for (const CudaEpilogue epilogue : kEpilogues) {
    ASSERT_TRUE(linear.TunePlans(quantized.matrix, epilogue, rows).ok());
    ExpectProduct(linear, quantized, 70, epilogue, {});
  }
}

TEST_P(QuantizedLinearTest, TakesNoMoreMemoryThanTheCpu) {
  const CudaMatrix matrix = *CudaMatrix::Create(4096, 1024, GetParam());
  const double bits = 8.0 * static_cast<double>(matrix.bytes()) / (4096.0 * 1024.0);
  EXPECT_EQ(bits, GetParam() == WeightElement::kInt4 ? 4.5 : 8.5);
  EXPECT_EQ(CudaMatrix::Create(12, 64, GetParam()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(All, QuantizedLinearTest,
                         testing::Values(WeightElement::kInt8, WeightElement::kInt4),
                         [](const testing::TestParamInfo<WeightElement>& tested) {
                           return tested.param == WeightElement::kInt8 ? "int8" : "int4";
                         });

}  // namespace
}  // namespace baton
