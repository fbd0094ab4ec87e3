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
#include "engine/kernels/kernel_table.h"

namespace baton {

// A weight matrix on the device: n outputs of k inputs each. bf16 as Hugging Face stores it, int8
// and int4 as in quantized_weights.h.
class CudaMatrix {
 public:
  // Not initialised. INVALID_ARGUMENT: n or k is not a positive multiple of 8. REQUIRES: not f32.
  static absl::StatusOr<CudaMatrix> Create(int32_t n, int32_t k,
                                           WeightElement element = WeightElement::kBf16);

  int32_t n() const { return n_; }
  int32_t k() const { return k_; }
  WeightElement element() const { return element_; }
  int64_t bytes() const {  // without the bias
    return static_cast<int64_t>(weights_.bytes() + tiles_.bytes());
  }
  DeviceArray<Bf16>& weights() { return weights_; }  // [n, k] bf16; empty: quantized
  const DeviceArray<Bf16>& weights() const { return weights_; }
  DeviceArray<std::byte>& tiles() { return tiles_; }  // [NumQuantTiles(n)]; empty: bf16
  const DeviceArray<std::byte>& tiles() const { return tiles_; }

  // `bias`: [n]. Kept in f32 and rounded to bf16: the library adds the dtype of the output.
  absl::Status SetBias(const CudaContext& context, std::span<const float> bias);
  bool has_bias() const { return bias_.size() > 0; }
  const float* bias() const { return bias_.data(); }                 // [n] f32, or null
  const Bf16* rounded_bias() const { return rounded_bias_.data(); }  // [n] bf16, or null

 private:
  int32_t n_ = 0;
  int32_t k_ = 0;
  WeightElement element_ = WeightElement::kBf16;
  DeviceArray<Bf16> weights_;
  DeviceArray<std::byte> tiles_;
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

// Keeps how each shape of product is best computed. With bf16 weights numbers of rows are taken
// together in buckets; a row's last bits may depend on the bucket. With quantized ones up to
// kMaxQuantizedRows rows are multiplied by a kernel that gives a row the same bits in each, and
// more by the library: some outputs at a time are made bf16 first. Not thread-safe: the step
// loop's, as its context, which outlives it.
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

  // Sets aside the scratch of products of many rows with `weights`; else the first one does, which
  // is not to be in a graph.
  absl::Status Reserve(const CudaMatrix& weights);

  // Times what the library suggests for products of `rows` rows with a matrix like `weights` and
  // keeps the fastest, where it is the library that multiplies. Waits for the device; not while a
  // graph is captured.
  absl::Status TunePlans(const CudaMatrix& weights, CudaEpilogue epilogue,
                         std::span<const int32_t> rows);

  // The largest number of rows of `rows`' bucket: powers of two, from 16 on with one step between.
  static int32_t RowsBucket(int32_t rows);

 private:
  struct Plan;
  // A product as the library gets it: with bf16 weights, some outputs of a matrix or all.
  struct Product {
    const Bf16* input = nullptr;    // [rows, k]
    const Bf16* weights = nullptr;  // [n, k]
    const void* bias = nullptr;     // [n] of the output's dtype, or null
    void* output = nullptr;         // [rows, n], rows `stride` apart
    int32_t rows = 0;
    int32_t n = 0;
    int32_t k = 0;
    int32_t stride = 0;
    CudaEpilogue epilogue = CudaEpilogue::kStoreBf16;
  };
  // n, k, stride, bucket of rows, epilogue, bias
  using Key = std::tuple<int32_t, int32_t, int32_t, int32_t, CudaEpilogue, bool>;

  // Of outputs [begin, end) of a matrix, whose weights are at `weights` as bf16.
  static Product ProductOf(const CudaLinearArgs& args, const Bf16* weights, int32_t begin,
                           int32_t end);
  int32_t OutputsAtOnce(const CudaMatrix& weights) const;
  void RunQuantized(const CudaLinearArgs& args);
  void Multiply(const Product& product);
  absl::Status Tune(const Product& product);
  absl::Status FindCandidates(Plan* plan) const;
  absl::StatusOr<std::unique_ptr<Plan>> MakePlan(const Product& product) const;
  absl::StatusOr<Plan*> FindPlan(const Product& product);
  cublasStatus_t Start(const Plan& plan, const Product& product,
                       const cublasLtMatmulAlgo_t* algorithm) const;
  absl::StatusOr<float> TimeCandidate(const Plan& plan, const Product& product,
                                      const cublasLtMatmulAlgo_t& algorithm,
                                      DeviceArray<std::byte>* cache_filler) const;

  const CudaContext& context_;
  const size_t scratch_bytes_;
  std::map<Key, std::unique_ptr<Plan>> plans_;
  DeviceArray<Bf16> scratch_;  // [OutputsAtOnce, k] of the largest matrix
};

}  // namespace baton
