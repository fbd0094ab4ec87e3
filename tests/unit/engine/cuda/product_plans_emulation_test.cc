// Which way a product takes once ways were timed, on a device whose times a test may set.
#include <gtest/gtest.h>

#include "engine/kernels/cuda/invariant_linear.h"
#include "engine/kernels/linear.h"
#include "tests/unit/engine/cuda/product_harness.h"

namespace baton {
namespace {

constexpr int32_t kN = 40;
constexpr int32_t kK = 1160;
constexpr int32_t kN8 = 32;  // as weights of e4m3 need it
constexpr int kSlow = 50;    // pieces of work

class ProductPlansEmulationTest : public ProductTest {
 protected:
  void TearDown() override {
    cuda_emulation::SetProductPieces(1);
    ProductTest::TearDown();
  }

  // What `multiply` leaves of an output of `rows` rows.
  template <typename Multiply>
  std::vector<std::byte> Output(const CudaMatrix& matrix, CudaEpilogue epilogue, int32_t rows,
                                Multiply multiply) {
    const std::vector<std::byte> before(static_cast<size_t>(rows) * kN * OutputBytes(epilogue),
                                        std::byte{0x3f});
    DeviceArray<std::byte> output = OnDevice(before);
    DeviceArray<Bf16> pairs = OnDevice<Bf16>(static_cast<size_t>(rows) * kN);
    multiply(CudaLinearArgs{.input = input_.data(),
                            .weights = &matrix,
                            .epilogue = epilogue,
                            .output = output.data(),
                            .pairs = pairs.data(),
                            .rows = rows});
    return OnHost(output);
  }
  std::vector<std::byte> ByOwnKernel(const CudaMatrix& matrix, CudaEpilogue epilogue,
                                     int32_t rows) {
    return Output(matrix, epilogue, rows, [this](const CudaLinearArgs& args) {
      InvariantLinearBy(context(), InvariantKernel::kFewRows, args);
    });
  }
  std::vector<std::byte> ByPlan(CudaLinear& linear, const CudaMatrix& matrix, CudaEpilogue epilogue,
                                int32_t rows) {
    return Output(matrix, epilogue, rows, [&](const CudaLinearArgs& args) { linear.Run(args); });
  }

  void SetUp() override {
    ProductTest::SetUp();
    input_ = OnDevice(RandomBf16(size_t{64} * kK));
    matrix_ = Matrix(RandomBf16(size_t{kN} * kK), kN, kK);
    biased_ = Matrix(RandomBf16(size_t{kN} * kK), kN, kK);
    BATON_CHECK_OK(biased_.SetBias(context(), Random(kN, 8.0f)));
  }

  static constexpr int32_t kTuned[] = {1, 20, 32, 40};
  DeviceArray<Bf16> input_;
  CudaMatrix matrix_;
  CudaMatrix biased_;
};

TEST_F(ProductPlansEmulationTest, FewRowsTakeOurKernelWhereTheLibraryIsSlower) {
  CudaLinear linear(context());
  cuda_emulation::SetProductPieces(kSlow);
  for (const CudaMatrix* matrix : {&matrix_, &biased_}) {
    for (const CudaEpilogue epilogue : {CudaEpilogue::kStoreBf16, CudaEpilogue::kStoreF32,
                                        CudaEpilogue::kAddToF32, CudaEpilogue::kSiluMul}) {
      ASSERT_TRUE(linear.TunePlans(*matrix, epilogue, kTuned).ok());
      for (const int32_t rows : {1, 17, 24, 25, 32}) {  // 17 to 24 are one bucket, 25 to 32 too
        EXPECT_EQ(ByPlan(linear, *matrix, epilogue, rows), ByOwnKernel(*matrix, epilogue, rows))
            << rows;
      }
    }
  }
  const auto epilogue = CudaEpilogue::kStoreF32;
  for (const int32_t rows : {4, 40}) {
    EXPECT_NE(ByPlan(linear, matrix_, epilogue, rows), ByOwnKernel(matrix_, epilogue, rows))
        << rows << (rows == 4 ? " were not timed" : " are not few");
  }
}

TEST_F(ProductPlansEmulationTest, TunedProductsOfTheLibraryAreGatedToo) {
  CudaLinear linear(context(), {.own_few_rows = false});
  for (const CudaMatrix* matrix : {&matrix_, &biased_}) {
    ASSERT_TRUE(linear.TunePlans(*matrix, CudaEpilogue::kSiluMul, kTuned).ok());
    for (const int32_t rows : {20, 40}) {
      ExpectGatedAlike(*matrix, rows, [&](const CudaLinearArgs& args) { linear.Run(args); });
    }
  }
}

TEST_F(ProductPlansEmulationTest, TheLibraryKeepsWhatOurKernelIsNotFasterAt) {
  const auto epilogue = CudaEpilogue::kStoreF32;
  CudaLinear linear(context());
  ASSERT_TRUE(linear.TunePlans(matrix_, epilogue, kTuned).ok());
  EXPECT_NE(ByPlan(linear, matrix_, epilogue, 20), ByOwnKernel(matrix_, epilogue, 20));
  CudaLinear without(context(), {.own_few_rows = false});
  cuda_emulation::SetProductPieces(kSlow);
  ASSERT_TRUE(without.TunePlans(matrix_, epilogue, kTuned).ok());
  EXPECT_NE(ByPlan(without, matrix_, epilogue, 20), ByOwnKernel(matrix_, epilogue, 20));
}

// Weights of e4m3 that the library does not multiply are made bf16, in the scratch: such a product
// has the shape of one of a bf16 matrix, but no matrix for our kernel.
TEST_F(ProductPlansEmulationTest, UnpackedWeightsOfTheSameShapeStayTheLibrarys) {
  constexpr int32_t kMany = 9216;
  constexpr auto kEpilogue = CudaEpilogue::kStoreF32;
  const CudaMatrix bf16 = Matrix(RandomBf16(size_t{kN8} * kMany), kN8, kMany);
  CudaMatrix fp8 = *CudaMatrix::Create(kN8, kMany, WeightElement::kFp8);
  Upload(context(), std::vector<std::byte>(fp8.packed().size(), std::byte{0x35}), &fp8.packed());
  Upload(context(), std::vector<float>(kN8, 0.25f), &fp8.scales());
  const DeviceArray<Bf16> input = OnDevice(RandomBf16(size_t{32} * kMany));
  const auto product = [&](CudaLinear& linear) {
    DeviceArray<float> output = OnDevice<float>(size_t{20} * kN8);
    linear.Run({.input = input.data(),
                .weights = &fp8,
                .epilogue = kEpilogue,
                .output = output.data(),
                .rows = 20});
    return OnHost(output);
  };
  cuda_emulation::SetProductPieces(kSlow);
  CudaLinear linear(context());
  ASSERT_TRUE(linear.TunePlans(bf16, kEpilogue, kTuned).ok());
  CudaLinear other(context());
  EXPECT_EQ(product(linear), product(other));
}

}  // namespace
}  // namespace baton
