// What tests of products have in common.
#pragma once

#include "engine/kernels/cuda/linear.h"
#include "engine/kernels/cuda/silu_mul.h"
#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {

struct ProductShape {
  int32_t n;
  int32_t k;
  int32_t rows;
};

// Those that store a number for each output.
inline constexpr CudaEpilogue kEpilogues[] = {CudaEpilogue::kStoreBf16, CudaEpilogue::kStoreF32,
                                              CudaEpilogue::kAddToF32};

class ProductTest : public CudaTest {
 protected:
  CudaMatrix Matrix(const std::vector<Bf16>& weights, int32_t n, int32_t k) {
    absl::StatusOr<CudaMatrix> matrix = CudaMatrix::Create(n, k);
    BATON_CHECK(matrix.ok()) << matrix.status();
    Upload(context(), weights, &matrix->weights());
    return *std::move(matrix);
  }

  // A product that is gated has the bits of one that is gated afterwards. `run`: enqueues it.
  template <typename Run>
  void ExpectGatedAlike(const CudaMatrix& matrix, int32_t rows, Run run) {
    const size_t count = static_cast<size_t>(rows) * matrix.n();
    const DeviceArray<Bf16> input = OnDevice(RandomBf16(static_cast<size_t>(rows) * matrix.k()));
    DeviceArray<Bf16> stored = OnDevice<Bf16>(count);
    DeviceArray<Bf16> pairs = OnDevice(std::vector<Bf16>(count, Bf16{0x7fc0}));
    DeviceArray<Bf16> expected = OnDevice<Bf16>(count / 2);
    DeviceArray<Bf16> gated = OnDevice<Bf16>(count / 2);
    CudaLinearArgs args = {.input = input.data(),
                           .weights = &matrix,
                           .epilogue = CudaEpilogue::kStoreBf16,
                           .output = stored.data(),
                           .rows = rows};
    run(args);
    SiluMul(
        context(),
        {.input = stored.data(), .output = expected.data(), .rows = rows, .width = matrix.n() / 2});
    args.epilogue = CudaEpilogue::kSiluMul;
    args.output = gated.data();
    args.pairs = pairs.data();
    run(args);
    EXPECT_EQ(OnHost(gated), OnHost(expected)) << matrix.n() << " " << matrix.k() << " " << rows;
  }
};

}  // namespace baton
