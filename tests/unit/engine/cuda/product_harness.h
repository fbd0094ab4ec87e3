// What tests of products have in common.
#pragma once

#include "engine/kernels/cuda/linear.h"
#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {

struct ProductShape {
  int32_t n;
  int32_t k;
  int32_t rows;
};

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
};

}  // namespace baton
