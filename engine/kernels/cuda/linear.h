// input * weights^T + bias: bf16 factors and sums in f32 by cuBLASLt; few rows with int8 or int4
// weights by a kernel of our own, see quantized_linear.h, few rows with bf16 ones where ours was
// faster, and all that is to be batch-invariant, see invariant_linear.h.
#pragma once

#include <cstdint>
#include <span>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kernels/cuda/fp8.h"
#include "engine/kernels/cuda/matrix.h"
#include "engine/kernels/cuda/product_plans.h"

namespace baton {

// Where the library takes a scale for each row and output of e4m3: see cuBLAS, "Outer Vector
// Scaling for FP8 Data Types".
inline constexpr int32_t kFp8ComputeCapability = 90;
inline constexpr size_t kFp8LibraryVersion = 120900;  // of cublasLtGetVersion
// UNIMPLEMENTED: the library that is there is older.
absl::Status CheckFp8Library();

struct CudaLinearArgs {
  const Bf16* input = nullptr;  // [rows, k] bf16, device, aligned to 16 bytes
  const CudaMatrix* weights = nullptr;
  CudaEpilogue epilogue = CudaEpilogue::kStoreBf16;
  void* output = nullptr;  // see CudaEpilogue; device, aligned to 16 bytes; not the input
  // kSiluMul where products need not be batch-invariant: [rows, n], device, aligned to 16 bytes,
  // for the product where it is not our kernel's. Else not used.
  Bf16* pairs = nullptr;
  int32_t rows = 0;
};

// Enqueues what writes the input of a product: as e4m3 to `rounded`, with the bits that
// QuantizeRows would give, or, where that is null, as bf16 to CudaLinearArgs::input.
using WriteInputFn = absl::FunctionRef<void(const E4m3Rows* rounded)>;

struct CudaLinearOptions {
  // A row's bits depend on its own input and the matrix alone, in products of any number of rows.
  bool batch_invariant = false;
  // Whether TunePlans times our own kernel of few rows beside the library's.
  bool own_few_rows = true;
  // What is set aside for weights made bf16, at most: thousands of outputs, whose products fill a
  // device.
  size_t scratch_bytes = size_t{64} << 20;
};

// With bf16 weights the library multiplies, or few rows a kernel of our own, by ProductPlans. With
// quantized ones up to kMaxQuantizedRows rows are multiplied by a kernel that gives a row the same
// bits in each, and more by the library: some outputs at a time are made bf16 first. With fp8 ones
// the input is rounded to e4m3 first, each row by itself, and the bias to bf16; the library's
// FAST_ACCUM is off. Where it has no such product (few rows of many inputs) fp8 ones are made bf16
// too, and the input stays as it is.
//
// Where products are to be batch-invariant the library multiplies none: bf16 weights are for
// InvariantLinear, int8 and int4 ones for QuantizedLinear with any number of rows, and nothing is
// tuned. There are no such products of fp8.
//
// Not thread-safe: the step loop's, as its context, which outlives it.
class CudaLinear {
 public:
  explicit CudaLinear(const CudaContext& context, const CudaLinearOptions& options = {});

  // Enqueues one product. A shape that was not tuned runs as the library suggests. REQUIRES: no
  // weights of fp8 where products are batch-invariant.
  void Run(const CudaLinearArgs& args);
  // The same where the input is still to be written, in the form that is multiplied. `write_input`
  // is called twice, for e4m3 and then for bf16, where the library refuses a product when it is to
  // start: nothing but that start says for certain that it does not.
  void Run(const CudaLinearArgs& args, WriteInputFn write_input);

  // Sets aside the scratch of products of up to `max_rows` rows with `weights`; else the first one
  // does, which is not to be in a graph. Of fp8 fails as CheckFp8Library does.
  absl::Status Reserve(const CudaMatrix& weights, int32_t max_rows);

  // What is set aside so far.
  int64_t scratch_bytes() const {
    return static_cast<int64_t>(scratch_.bytes() + rounded_input_.bytes() + input_scales_.bytes());
  }

  // Times what ProductPlans::Tune does for products of `rows` rows with a matrix like `weights` and
  // keeps the fastest, where it is the library that multiplies. Waits for the device; not while a
  // graph is captured.
  absl::Status TunePlans(const CudaMatrix& weights, CudaEpilogue epilogue,
                         std::span<const int32_t> rows);

 private:
  // Of outputs [begin, end) of a matrix, whose weights are at `weights` as bf16.
  static LibraryProduct ProductOf(const CudaLinearArgs& args, const Bf16* weights, int32_t begin,
                                  int32_t end);
  // All of a matrix of bf16.
  LibraryProduct Bf16ProductOf(const CudaLinearArgs& args) const;
  // Of bf16: that the library has no way is an error.
  void Multiply(const LibraryProduct& product);
  int32_t OutputsAtOnce(const CudaMatrix& weights) const;
  void RunUnpacked(const CudaLinearArgs& args);
  void RunInvariant(const CudaLinearArgs& args);
  // All of a matrix of fp8, with the input in the scratch.
  LibraryProduct Fp8ProductOf(const CudaLinearArgs& args) const;
  // False: the library has no such product, and none is enqueued.
  bool RunFp8(const CudaLinearArgs& args, WriteInputFn write_input);

  const CudaContext& context_;
  const CudaLinearOptions options_;
  ProductPlans plans_;
  DeviceArray<Bf16> scratch_;           // [OutputsAtOnce, k] of the largest matrix
  DeviceArray<uint8_t> rounded_input_;  // [rows, k] of the largest product of e4m3
  DeviceArray<float> input_scales_;     // [rows]
};

}  // namespace baton
