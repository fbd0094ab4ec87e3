// input * weights^T + bias by cuBLASLt: bf16 factors, sums in f32.
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

namespace baton {

// A weight matrix on the device, as Hugging Face stores it: n outputs of k inputs each.
class CudaMatrix {
 public:
  // Not initialised. INVALID_ARGUMENT: n or k is not a positive multiple of 8.
  static absl::StatusOr<CudaMatrix> Create(int32_t n, int32_t k);

  int32_t n() const { return n_; }
  int32_t k() const { return k_; }
  int64_t bytes() const { return static_cast<int64_t>(weights_.bytes()); }  // without the bias
  DeviceArray<Bf16>& weights() { return weights_; }                         // [n, k] bf16
  const DeviceArray<Bf16>& weights() const { return weights_; }

  // `bias`: [n]. Kept in f32 and rounded to bf16: the library adds the dtype of the output.
  absl::Status SetBias(const CudaContext& context, std::span<const float> bias);
  bool has_bias() const { return bias_.size() > 0; }
  const float* bias() const { return bias_.data(); }                 // [n] f32, or null
  const Bf16* rounded_bias() const { return rounded_bias_.data(); }  // [n] bf16, or null

 private:
  int32_t n_ = 0;
  int32_t k_ = 0;
  DeviceArray<Bf16> weights_;
  DeviceArray<float> bias_;
  DeviceArray<Bf16> rounded_bias_;
};

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

// Keeps how each shape of product is best computed. Numbers of rows are taken together in buckets;
// a row's last bits may depend on the bucket. Not thread-safe: the step loop's, as its context,
// which outlives it.
class CudaLinear {
 public:
  explicit CudaLinear(const CudaContext& context);
  ~CudaLinear();
  CudaLinear(const CudaLinear&) = delete;
  CudaLinear& operator=(const CudaLinear&) = delete;

  // Enqueues one product. A shape that was not tuned runs as the library suggests.
  void Run(const CudaLinearArgs& args);

  // Times what the library suggests for products of `rows` rows with a matrix like `weights` and
  // keeps the fastest. Waits for the device; not while a graph is captured.
  absl::Status TunePlans(const CudaMatrix& weights, CudaEpilogue epilogue,
                         std::span<const int32_t> rows);

  // The largest number of rows of `rows`' bucket: powers of two, from 16 on with one step between.
  static int32_t RowsBucket(int32_t rows);

 private:
  struct Plan;
  using Key = std::tuple<int32_t, int32_t, int32_t, CudaEpilogue, bool>;  // n, k, bucket, .., bias

  absl::Status FindCandidates(Plan* plan) const;
  absl::StatusOr<std::unique_ptr<Plan>> MakePlan(const CudaMatrix& weights, CudaEpilogue epilogue,
                                                 int32_t rows) const;
  absl::StatusOr<Plan*> FindPlan(const CudaMatrix& weights, CudaEpilogue epilogue, int32_t rows);
  cublasStatus_t Multiply(const Plan& plan, const CudaLinearArgs& args,
                          const cublasLtMatmulAlgo_t* algorithm) const;
  absl::StatusOr<float> TimeCandidate(const Plan& plan, const CudaLinearArgs& args,
                                      const cublasLtMatmulAlgo_t& algorithm,
                                      DeviceArray<std::byte>* cache_filler) const;

  const CudaContext& context_;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace baton
