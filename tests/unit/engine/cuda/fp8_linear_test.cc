// Numbers of e4m3, rows of them, and products with them.
#include <algorithm>
#include <limits>

#include "engine/kernels/cuda/fp8.h"
#include "engine/kernels/cuda/graph.h"
#include "engine/kernels/cuda/linear.h"
#include "engine/kernels/cuda/quantize_rows.h"
#include "engine/kernels/cuda/rms_norm.h"
#include "tests/unit/engine/cuda/product_harness.h"

namespace baton {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Every number in its place: none lies nearer, and of two as near the even one is taken.
TEST(Fp8Test, RoundsToTheNearestNumber) {
  EXPECT_EQ(FromE4m3(0x7e), kE4m3Max);
  EXPECT_EQ(FromE4m3(0x01), 0x1p-9f);
  EXPECT_EQ(FromE4m3(0x08), 0x1p-6f);
  EXPECT_EQ(FromE4m3(0xb8), -1.0f);
  EXPECT_TRUE(std::isnan(FromE4m3(0x7f)) && std::isnan(FromE4m3(0xff)));
  for (int code = 0; code <= 0x7e; ++code) {
    const float value = FromE4m3(static_cast<uint8_t>(code));
    EXPECT_EQ(ToE4m3(value), code);
    EXPECT_EQ(ToE4m3(-value), code | 0x80);
    if (code == 0x7e) break;
    const float next = FromE4m3(static_cast<uint8_t>(code + 1));
    ASSERT_LT(value, next);
    const float middle = (value + next) / 2;
    EXPECT_EQ(ToE4m3(middle), code + code % 2) << code;
    EXPECT_EQ(ToE4m3(std::nextafter(middle, 0.0f)), code);
    EXPECT_EQ(ToE4m3(std::nextafter(middle, kInfinity)), code + 1);
  }
  for (const float large : {449.0f, 464.0f, 480.0f, 1e30f, kInfinity}) {
    EXPECT_EQ(ToE4m3(large), 0x7e);
    EXPECT_EQ(ToE4m3(-large), 0xfe);
  }
  EXPECT_EQ(ToE4m3(kNan), 0x7f);
  EXPECT_EQ(ToE4m3(-kNan), 0x7f);
}

class CudaFp8Test : public ProductTest {
 protected:
  void SetUp() override {
    ProductTest::SetUp();
    if (IsSkipped()) return;
    if (context().info().compute_capability != kFp8ComputeCapability) {
      GTEST_SKIP() << "compute capability " << context().info().compute_capability;
    }
    if (const absl::Status library = CheckFp8Library(); !library.ok()) GTEST_SKIP() << library;
  }

  struct Rows {
    std::vector<uint8_t> codes;
    std::vector<float> scales;
    float At(int64_t row, int64_t i, int64_t width) const {
      return scales[row] * FromE4m3(codes[row * width + i]);
    }
  };
  // The rounding that weights get, on the host.
  static Rows Rounded(const std::vector<float>& values, int32_t width) {
    Rows rows = {.codes = std::vector<uint8_t>(values.size()),
                 .scales = std::vector<float>(values.size() / width)};
    for (size_t row = 0; row < rows.scales.size(); ++row) {
      rows.scales[row] = RoundRowToE4m3(std::span(values).subspan(row * width, width),
                                        rows.codes.data() + row * width);
    }
    return rows;
  }
  static std::vector<float> Widened(const std::vector<Bf16>& values) {
    std::vector<float> wide(values.size());
    std::ranges::transform(values, wide.begin(), [](Bf16 x) { return ToFloat(x); });
    return wide;
  }
  CudaMatrix Matrix(const Rows& rows, int32_t n, int32_t k) {
    CudaMatrix matrix = *CudaMatrix::Create(n, k, WeightElement::kFp8);
    Upload(context(), std::as_bytes(std::span(rows.codes)), &matrix.packed());
    Upload(context(), rows.scales, &matrix.scales());
    return matrix;
  }
};

TEST_F(CudaFp8Test, RowsAreRoundedAsOnTheHost) {
  for (const int32_t width : {8, 16, 264, 2056, 4112}) {
    constexpr int32_t kRows = 6;
    std::vector<float> values = Random(static_cast<size_t>(kRows) * width, 3.0f);
    for (int32_t i = 0; i < width; ++i) {
      values[i] *= 1e-3f;
      values[width + i] = 0.0f;
      values[2 * width + i] *= 1e30f;
      values[3 * width + i] *= 0x1p-140f;  // too small for a scale
    }
    values[4 * width + 5] = kInfinity;
    const std::vector<Bf16> input = ToBf16s(values);
    const DeviceArray<Bf16> device_input = OnDevice(input);
    DeviceArray<uint8_t> codes = OnDevice<uint8_t>(values.size());
    DeviceArray<float> scales = OnDevice<float>(kRows);
    QuantizeRows(context(), {.input = device_input.data(),
                             .output = codes.data(),
                             .scales = scales.data(),
                             .rows = kRows,
                             .width = width});
    const Rows expected = Rounded(Widened(input), width);
    EXPECT_EQ(OnHost(codes), expected.codes) << width;
    EXPECT_EQ(OnHost(scales), expected.scales) << width;
    for (const int32_t row : {0, 2, 5}) {  // the largest number is there exactly
      const auto* begin = expected.codes.data() + int64_t{row} * width;
      EXPECT_TRUE(std::any_of(begin, begin + width, [](uint8_t x) { return (x & 0x7f) == 0x7e; }));
    }
  }
}

TEST_F(CudaFp8Test, MultipliesWhatWasRounded) {
  CudaLinear linear(context());
  for (const auto& [n, k, rows] :
       {std::tuple{16, 16, 1}, std::tuple{48, 80, 3}, std::tuple{32, 272, 17}}) {
    const Rows weights = Rounded(Random(static_cast<size_t>(n) * k), k);
    const std::vector<Bf16> input = RandomBf16(static_cast<size_t>(rows) * k);
    const Rows rounded = Rounded(Widened(input), k);
    const std::vector<float> before = Random(static_cast<size_t>(rows) * n);
    const std::vector<float> bias = Random(n, 4.0f);
    const DeviceArray<Bf16> device_input = OnDevice(input);
    for (const bool biased : {false, true}) {
      CudaMatrix matrix = Matrix(weights, n, k);
      if (biased) BATON_CHECK_OK(matrix.SetBias(context(), bias));
      for (const CudaEpilogue epilogue :
           {CudaEpilogue::kStoreBf16, CudaEpilogue::kStoreF32, CudaEpilogue::kAddToF32}) {
        const bool bf16 = epilogue == CudaEpilogue::kStoreBf16;
        DeviceArray<float> f32_output = OnDevice(before);
        DeviceArray<Bf16> bf16_output = OnDevice<Bf16>(before.size());
        linear.Run({.input = device_input.data(),
                    .weights = &matrix,
                    .epilogue = epilogue,
                    .output = bf16 ? static_cast<void*>(bf16_output.data()) : f32_output.data(),
                    .rows = rows});
        const std::vector<float> f32 = OnHost(f32_output);
        const std::vector<Bf16> narrow = bf16 ? OnHost(bf16_output) : std::vector<Bf16>();
        for (int32_t at = 0; at < rows * n; ++at) {
          double exact = epilogue == CudaEpilogue::kAddToF32 ? before[at] : 0.0;
          if (biased) exact += ToFloat(ToBf16(bias[at % n]));
          for (int32_t j = 0; j < k; ++j) {
            exact += double{rounded.At(at / n, j, k)} * weights.At(at % n, j, k);
          }
          // Tensor cores keep fewer bits of a sum of e4m3 than f32 has.
          ASSERT_NEAR(bf16 ? ToFloat(narrow[at]) : f32[at], exact,
                      (bf16 ? Bf16Tolerance(exact) : 0.0) + 1e-4 * k)
              << n << " " << k << " " << rows << " at " << at;
        }
      }
    }
  }
}

// The library has no product of e4m3 for the last one: it is made bf16, and gated behind that.
TEST_F(CudaFp8Test, GatedProductsHaveTheBitsOfThoseGatedAfterwards) {
  for (const auto& [n, k, rows] :
       {std::tuple{16, 16, 1}, std::tuple{48, 80, 20}, std::tuple{32, 9216, 20}}) {
    CudaMatrix matrix = Matrix(Rounded(Random(static_cast<size_t>(n) * k), k), n, k);
    BATON_CHECK_OK(matrix.SetBias(context(), Random(n, 4.0f)));
    CudaLinear linear(context());
    ExpectGatedAlike(matrix, rows, [&](const CudaLinearArgs& args) { linear.Run(args); });
    const std::vector<int32_t> tuned = {rows};
    ASSERT_TRUE(linear.TunePlans(matrix, CudaEpilogue::kSiluMul, tuned).ok());
    ExpectGatedAlike(matrix, rows, [&](const CudaLinearArgs& args) { linear.Run(args); });
  }
}

TEST_F(CudaFp8Test, WhatIsNotFiniteGivesNan) {
  constexpr int32_t kN = 16, kK = 32, kRows = 3;
  std::vector<float> values = Random(size_t{kN} * kK);
  values[5 * kK + 7] = kInfinity;
  std::vector<Bf16> input = RandomBf16(size_t{kRows} * kK);
  input[kK + 9] = ToBf16(kNan);
  const CudaMatrix matrix = Matrix(Rounded(values, kK), kN, kK);
  const DeviceArray<Bf16> device_input = OnDevice(input);
  DeviceArray<float> output = OnDevice<float>(size_t{kRows} * kN);
  CudaLinear linear(context());
  linear.Run({.input = device_input.data(),
              .weights = &matrix,
              .epilogue = CudaEpilogue::kStoreF32,
              .output = output.data(),
              .rows = kRows});
  const std::vector<float> found = OnHost(output);
  for (int32_t i = 0; i < kRows * kN; ++i) {
    EXPECT_EQ(std::isnan(found[i]), i % kN == 5 || i / kN == 1) << i;
  }
}

TEST_F(CudaFp8Test, TunedPlansGiveTheSameProduct) {
  constexpr int32_t kN = 32, kK = 48, kRows = 20;
  const CudaMatrix matrix = Matrix(Rounded(Random(size_t{kN} * kK), kK), kN, kK);
  const DeviceArray<Bf16> input = OnDevice(RandomBf16(size_t{kRows} * kK));
  const auto run = [&](CudaLinear& linear) {
    DeviceArray<float> output = OnDevice<float>(size_t{kRows} * kN);
    linear.Run({.input = input.data(),
                .weights = &matrix,
                .epilogue = CudaEpilogue::kStoreF32,
                .output = output.data(),
                .rows = kRows});
    return OnHost(output);
  };
  CudaLinear plain(context());
  CudaLinear tuned(context());
  const std::vector<int32_t> rows = {kRows};
  ASSERT_TRUE(tuned.TunePlans(matrix, CudaEpilogue::kStoreF32, rows).ok());
  const std::vector<float> expected = run(plain);
  const std::vector<float> found = run(tuned);
  for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-4 * kK) << i;
}

// As `down` of Llama-3-8B is for some versions of the library. Where it has a product of e4m3 the
// input was rounded too.
TEST_F(CudaFp8Test, ManyInputsAndFewRowsAreMultipliedOneWayOrTheOther) {
  constexpr int32_t kN = 16, kK = 9216;
  const Rows weights = Rounded(Random(size_t{kN} * kK), kK);
  const CudaMatrix matrix = Matrix(weights, kN, kK);
  for (const size_t scratch_bytes : {size_t{1}, CudaLinearOptions().scratch_bytes}) {
    for (const bool tuned : {false, true}) {
      for (const int32_t rows : {1, 3, 260}) {  // 260: the emulation has a way for its bucket
        CudaLinear linear(context(), {.scratch_bytes = scratch_bytes});
        const std::vector<int32_t> tuned_rows = {rows};
        if (tuned) {
          ASSERT_TRUE(linear.TunePlans(matrix, CudaEpilogue::kAddToF32, tuned_rows).ok());
        }
        const std::vector<Bf16> input = RandomBf16(static_cast<size_t>(rows) * kK);
        const std::vector<float> before = Random(static_cast<size_t>(rows) * kN);
        const DeviceArray<Bf16> device_input = OnDevice(input);
        DeviceArray<float> output = OnDevice(before);
        linear.Run({.input = device_input.data(),
                    .weights = &matrix,
                    .epilogue = CudaEpilogue::kAddToF32,
                    .output = output.data(),
                    .rows = rows});
        const std::vector<float> found = OnHost(output);
        double error = 0, size = 0;
        for (int32_t at = 0; at < rows * kN; ++at) {
          double exact = before[at];
          for (int32_t j = 0; j < kK; ++j) {
            exact += double{ToFloat(input[int64_t{at / kN} * kK + j])} * weights.At(at % kN, j, kK);
          }
          error += (found[at] - exact) * (found[at] - exact);
          size += exact * exact;
        }
        EXPECT_LT(std::sqrt(error / size), 0.03) << rows;
      }
    }
  }
}

// Whether the library has a product of e4m3 (the first), has none (one row of many inputs), or
// refuses it once its input is written: the emulation's has none of 260 rows, but one of its
// bucket.
TEST_F(CudaFp8Test, AnInputThatIsStillToBeWrittenGivesTheSameProduct) {
  struct Case {
    int32_t n, k, rows;
  };
  for (const auto& [n, k, rows] : {Case{32, 48, 20}, Case{16, 9216, 1}, Case{16, 9216, 260}}) {
    const CudaMatrix matrix = Matrix(Rounded(Random(static_cast<size_t>(n) * k), k), n, k);
    const DeviceArray<float> residual = OnDevice(Random(static_cast<size_t>(rows) * k));
    const DeviceArray<float> norm = OnDevice(Random(k));
    const std::vector<Bf16> nothing(static_cast<size_t>(rows) * k, ToBf16(kNan));
    const std::vector<float> before = Random(static_cast<size_t>(rows) * n);
    DeviceArray<Bf16> input = OnDevice(nothing);
    DeviceArray<float> output = OnDevice(before);
    const RmsNormArgs args{.input = residual.data(),
                           .weight = norm.data(),
                           .output = input.data(),
                           .rows = rows,
                           .width = k,
                           .epsilon = 1e-5f};
    const CudaLinearArgs product{.input = input.data(),
                                 .weights = &matrix,
                                 .epilogue = CudaEpilogue::kAddToF32,
                                 .output = output.data(),
                                 .rows = rows};
    CudaLinear linear(context());
    RmsNorm(context(), args);
    linear.Run(product);
    const std::vector<float> expected = OnHost(output);
    ASSERT_NE(expected, before);
    bool writes_e4m3 = false;
    const auto run = [&] {
      linear.Run(product, [&](const E4m3Rows* rounded) {
        writes_e4m3 |= rounded != nullptr;
        if (rounded == nullptr) return RmsNorm(context(), args);
        RmsNormToE4m3(context(), args, *rounded);
      });
      return absl::OkStatus();
    };
    for (const bool as_graph : {false, true}) {
      Upload(context(), nothing, &input);
      Upload(context(), before, &output);
      if (as_graph) {
        absl::StatusOr<CudaGraph> graph = CudaGraph::Capture(context(), run);
        ASSERT_TRUE(graph.ok()) << graph.status();
        graph->Launch(context());
        EXPECT_EQ(OnHost(output), expected) << rows << " rows as a graph";
      } else {
        ASSERT_TRUE(run().ok());
        EXPECT_EQ(OnHost(output), expected) << rows << " rows";
      }
    }
    if (k == 48) {
      EXPECT_TRUE(writes_e4m3);
    }
  }
}

TEST_F(CudaFp8Test, SizesMustBeMultiplesOfSixteen) {
  EXPECT_EQ(CudaMatrix::Create(24, 64, WeightElement::kFp8).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CudaMatrix::Create(64, 24, WeightElement::kFp8).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CudaMatrix::Create(32, 48, WeightElement::kFp8)->bytes(), 32 * 48 + 4 * 32);
}

}  // namespace
}  // namespace baton
