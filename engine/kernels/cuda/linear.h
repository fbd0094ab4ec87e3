// input * weights^T + bias: bf16 factors and sums in f32 by cuBLASLt; few rows with int8 or int4
// weights by a kernel of our own, see quantized_linear.h.
#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kernels/cuda/matrix.h"

namespace baton {

// Where the library takes a scale for each row and output of e4m3: see cuBLAS, "Outer Vector
// Scaling for FP8 Data Types".
inline constexpr int32_t kFp8ComputeCapability = 90;
inline constexpr size_t kFp8LibraryVersion = 120900;  // of cublasLtGetVersion
// UNIMPLEMENTED: the library that is there is older.
absl::Status CheckFp8Library();

// What becomes of the product [rows, n].
enum class CudaEpilogue {
  kStoreBf16,  // output = product: bf16 [rows, n]
  kStoreF32,   // output = product: f32 [rows, n]
  kAddToF32,   // output = output + product: f32 [rows, n]
};

struct CudaLinearArgs {
  const Bf16* input = nullptr;  // [rows, k] bf16, device, aligned to 16 bytes
  const CudaMatrix* weights = nullptr;
  CudaEpilogue epilogue = CudaEpilogue::kStoreBf16;
  void* output = nullptr;  // see CudaEpilogue; device, aligned to 16 bytes; not the input
  int32_t rows = 0;
};

// Keeps how each shape of product is best computed. With bf16 weights numbers of rows are taken
// together in buckets; a row's last bits may depend on the bucket. With quantized ones up to
// kMaxQuantizedRows rows are multiplied by a kernel that gives a row the same bits in each, and
// more by the library: some outputs at a time are made bf16 first. With fp8 ones the input is
// rounded to e4m3 first, each row by itself, and the bias to bf16; the library's FAST_ACCUM is off.
// Not thread-safe: the step loop's, as its context, which outlives it.
class CudaLinear {
 public:
  // What is set aside for weights made bf16, at most: thousands of outputs, whose products fill a
  // device.
  static constexpr size_t kScratchBytes = size_t{64} << 20;

  // `scratch_bytes`: for tests.
  explicit CudaLinear(const CudaContext& context, size_t scratch_bytes = kScratchBytes);
  ~CudaLinear();
  CudaLinear(const CudaLinear&) = delete;
  CudaLinear& operator=(const CudaLinear&) = delete;

  // Enqueues one product. A shape that was not tuned runs as the library suggests.
  void Run(const CudaLinearArgs& args);

  // Sets aside the scratch of products of up to `max_rows` rows with `weights`; else the first one
  // does, which is not to be in a graph. Of fp8 fails as CheckFp8Library does.
  absl::Status Reserve(const CudaMatrix& weights, int32_t max_rows);

  // What is set aside so far.
  int64_t scratch_bytes() const {
    return static_cast<int64_t>(scratch_.bytes() + rounded_input_.bytes() + input_scales_.bytes());
  }

  // Times what the library suggests for products of `rows` rows with a matrix like `weights` and
  // keeps the fastest, where it is the library that multiplies. Waits for the device; not while a
  // graph is captured.
  absl::Status TunePlans(const CudaMatrix& weights, CudaEpilogue epilogue,
                         std::span<const int32_t> rows);

  // The largest number of rows of `rows`' bucket: powers of two, from 16 on with one step between.
  static int32_t RowsBucket(int32_t rows);

 private:
  struct Plan;
  // A product as the library gets it: some outputs of a matrix or all. The factors are bf16, or
  // e4m3 with scales.
  struct Product {
    const void* input = nullptr;           // [rows, k]
    const void* weights = nullptr;         // [n, k]
    const float* input_scales = nullptr;   // e4m3: [rows]; else null
    const float* weight_scales = nullptr;  // e4m3: [n]; else null
    const void* bias = nullptr;            // [n] of the output's dtype, of bf16 with e4m3; or null
    void* output = nullptr;                // [rows, n], rows `stride` apart
    int32_t rows = 0;
    int32_t n = 0;
    int32_t k = 0;
    int32_t stride = 0;
    CudaEpilogue epilogue = CudaEpilogue::kStoreBf16;
    bool is_fp8() const { return weight_scales != nullptr; }
  };
  // n, k, stride, bucket of rows, epilogue, bias, fp8
  using Key = std::tuple<int32_t, int32_t, int32_t, int32_t, CudaEpilogue, bool, bool>;

  // Of outputs [begin, end) of a matrix, whose weights are at `weights` as bf16.
  static Product ProductOf(const CudaLinearArgs& args, const Bf16* weights, int32_t begin,
                           int32_t end);
  int32_t OutputsAtOnce(const CudaMatrix& weights) const;
  void RunQuantized(const CudaLinearArgs& args);
  // All of a matrix of fp8, with the input in the scratch.
  Product Fp8ProductOf(const CudaLinearArgs& args) const;
  void RunFp8(const CudaLinearArgs& args);
  void Multiply(const Product& product);
  absl::Status Tune(const Product& product);
  absl::Status FindCandidates(Plan* plan) const;
  absl::StatusOr<std::unique_ptr<Plan>> MakePlan(const Product& product) const;
  absl::StatusOr<Plan*> FindPlan(const Product& product);
  static cublasStatus_t SetPointers(const Plan& plan, const Product& product);
  cublasStatus_t Start(const Plan& plan, const Product& product,
                       const cublasLtMatmulAlgo_t* algorithm) const;
  absl::StatusOr<float> TimeCandidate(const Plan& plan, const Product& product,
                                      const cublasLtMatmulAlgo_t& algorithm,
                                      DeviceArray<std::byte>* cache_filler) const;

  const CudaContext& context_;
  const size_t scratch_bytes_;
  std::map<Key, std::unique_ptr<Plan>> plans_;
  DeviceArray<Bf16> scratch_;           // [OutputsAtOnce, k] of the largest matrix
  DeviceArray<uint8_t> rounded_input_;  // [rows, k] of the largest product of e4m3
  DeviceArray<float> input_scales_;     // [rows]
};

}  // namespace baton
