// How products of each shape are best computed: by cuBLASLt in one of its ways, or few rows by a
// kernel of our own, see invariant_linear.h.
#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/cache_flush.h"
#include "engine/kernels/cuda/context.h"

namespace baton {

class CudaMatrix;

// What becomes of the product [rows, n].
enum class CudaEpilogue {
  kStoreBf16,  // output = product: bf16 [rows, n]
  kStoreF32,   // output = product: f32 [rows, n]
  kAddToF32,   // output = output + product: f32 [rows, n]
  // output = silu(gate) * up of pairs (gate, up) of the product, which are rounded to bf16 first:
  // bf16 [rows, n / 2]. The bits that kStoreBf16 by the same kernel and then SiluMul give.
  kSiluMul,
};
bool IsBf16(CudaEpilogue epilogue);         // the output
size_t OutputBytes(CudaEpilogue epilogue);  // of a number

// input * weights^T + bias as the library gets it. The factors are bf16, or e4m3 with scales; sums
// are f32.
struct LibraryProduct {
  const void* input = nullptr;           // [rows, k]
  const void* weights = nullptr;         // [n, k]
  const float* input_scales = nullptr;   // e4m3: [rows]; else null
  const float* weight_scales = nullptr;  // e4m3: [n]; else null
  const void* bias = nullptr;            // [n] of the output's dtype, of bf16 with e4m3; or null
  void* output = nullptr;                // [rows, n], rows `stride` apart; kSiluMul: [rows, n / 2]
  Bf16* pairs = nullptr;                 // kSiluMul: [rows, n], what the library leaves; else null
  int32_t rows = 0;
  int32_t n = 0;
  int32_t k = 0;
  int32_t stride = 0;
  CudaEpilogue epilogue = CudaEpilogue::kStoreBf16;
  // Whose product this is where it is all of a bf16 matrix, so that our kernel can do it too; else
  // null.
  const CudaMatrix* matrix = nullptr;
  bool is_fp8() const { return weight_scales != nullptr; }
};

// Numbers of rows are taken together in buckets: a row's last bits may depend on its bucket, and,
// where plans were tuned, on what was fastest in this process. Not thread-safe: the step loop's.
class ProductPlans {
 public:
  explicit ProductPlans(const CudaContext& context);
  ~ProductPlans();
  ProductPlans(const ProductPlans&) = delete;
  ProductPlans& operator=(const ProductPlans&) = delete;

  // The largest number of rows of `rows`' bucket: powers of two, from 16 on with one step between.
  static int32_t RowsBucket(int32_t rows);

  // Whether the library has a way to multiply like this; it may still refuse fewer rows than the
  // bucket has.
  bool Knows(const LibraryProduct& product);

  // Enqueues one product: of a bucket that was not tuned as the library suggests first. False: the
  // library has no way, and nothing was enqueued.
  bool Multiply(const LibraryProduct& product);
  static absl::Status NoWay(const LibraryProduct& product);  // UNIMPLEMENTED

  // Times what the library suggests for products like this one, over an input and an output of its
  // own, but for an input of e4m3: what happens to be there; and, for few rows of `matrix`, our own
  // kernel. Keeps the first of which none behind it is clearly faster. Waits for the device; not
  // while a graph is captured. NoWay: none works.
  absl::Status Tune(const LibraryProduct& product);

 private:
  struct Plan;
  // n, k, stride, rows, epilogue, bias, fp8, whether all of a matrix
  using Key = std::tuple<int32_t, int32_t, int32_t, int32_t, CudaEpilogue, bool, bool, bool>;
  // One of the library's; none: InvariantKernel::kFewRows.
  using Way = std::optional<cublasLtMatmulAlgo_t>;

  absl::Status FindCandidates(CudaEpilogue epilogue, Plan* plan) const;
  absl::StatusOr<std::unique_ptr<Plan>> MakePlan(const LibraryProduct& product) const;
  // For products of up to `rows` rows.
  absl::StatusOr<Plan*> FindPlan(const LibraryProduct& product, int32_t rows);
  static cublasStatus_t SetPointers(const Plan& plan, const LibraryProduct& product);
  cublasStatus_t Start(const Plan& plan, const LibraryProduct& product, const Way& way) const;
  absl::StatusOr<float> TimeCandidate(const Plan& plan, const LibraryProduct& product,
                                      const Way& way, CudaCacheFlush* flush) const;

  const CudaContext& context_;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace baton
