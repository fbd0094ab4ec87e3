#include "engine/kernels/cuda/linear.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/kernels/cuda/dequantize.h"
#include "engine/kernels/cuda/invariant_linear.h"
#include "engine/kernels/cuda/quantize_rows.h"
#include "engine/kernels/cuda/quantized_linear.h"
#include "engine/kernels/cuda/silu_mul.h"

namespace baton {

namespace {

constexpr int32_t kOutputsStep = 128;  // of outputs that are made bf16 together

// What a product stores whose outputs come some at a time.
CudaEpilogue EpilogueOfParts(CudaEpilogue epilogue) {
  return epilogue == CudaEpilogue::kSiluMul ? CudaEpilogue::kStoreBf16 : epilogue;
}

}  // namespace

absl::Status CheckFp8Library() {
  const size_t version = cublasLtGetVersion();
  if (version >= kFp8LibraryVersion) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("weights of fp8 with cuBLASLt of version ", version,
                                               "; it takes scales for rows and outputs from ",
                                               kFp8LibraryVersion, " on"));
}

CudaLinear::CudaLinear(const CudaContext& context, const CudaLinearOptions& options)
    : context_(context), options_(options), plans_(context) {}

LibraryProduct CudaLinear::ProductOf(const CudaLinearArgs& args, const Bf16* weights, int32_t begin,
                                     int32_t end) {
  const CudaMatrix& matrix = *args.weights;
  const bool bf16 = IsBf16(args.epilogue);
  LibraryProduct product = {.input = args.input,
                            .weights = weights,
                            .pairs = args.pairs,
                            .rows = args.rows,
                            .n = end - begin,
                            .k = matrix.k(),
                            .stride = matrix.n(),
                            .epilogue = args.epilogue};
  if (matrix.has_bias() && bf16) product.bias = matrix.rounded_bias() + begin;
  if (matrix.has_bias() && !bf16) product.bias = matrix.bias() + begin;
  if (args.output != nullptr) {  // there is none to tune for
    product.output = static_cast<std::byte*>(args.output) +
                     static_cast<size_t>(begin) * OutputBytes(args.epilogue);
  }
  return product;
}

LibraryProduct CudaLinear::Bf16ProductOf(const CudaLinearArgs& args) const {
  const CudaMatrix& matrix = *args.weights;
  LibraryProduct product = ProductOf(args, matrix.weights().data(), 0, matrix.n());
  if (options_.own_few_rows) product.matrix = &matrix;
  return product;
}

void CudaLinear::Run(const CudaLinearArgs& args) {
  Run(args, [&](const E4m3Rows* rounded) {
    if (rounded == nullptr) return;
    QuantizeRows(context_, {.input = args.input,
                            .output = rounded->values,
                            .scales = rounded->scales,
                            .rows = args.rows,
                            .width = args.weights->k()});
  });
}

void CudaLinear::Run(const CudaLinearArgs& args, WriteInputFn write_input) {
  if (args.rows == 0) return;
  const CudaMatrix& matrix = *args.weights;
  const bool fp8 = matrix.element() == WeightElement::kFp8 && !options_.batch_invariant;
  if (fp8 && RunFp8(args, write_input)) return;
  write_input(nullptr);
  if (options_.batch_invariant) {
    RunInvariant(args);
  } else if (matrix.element() == WeightElement::kBf16) {
    Multiply(Bf16ProductOf(args));
  } else if (IsQuantized(matrix.element()) && args.rows <= kMaxQuantizedRows) {
    QuantizedLinear(context_, args);
  } else {
    RunUnpacked(args);
  }
}

void CudaLinear::RunInvariant(const CudaLinearArgs& args) {
  BATON_CHECK(args.weights->element() != WeightElement::kFp8);
  if (args.weights->element() == WeightElement::kBf16) {
    InvariantLinear(context_, args);
  } else {
    QuantizedLinear(context_, args);
  }
}

void CudaLinear::Multiply(const LibraryProduct& product) {
  if (!plans_.Multiply(product)) context_.Note(ProductPlans::NoWay(product));
}

int32_t CudaLinear::OutputsAtOnce(const CudaMatrix& weights) const {
  const auto row_bytes = static_cast<int64_t>(sizeof(Bf16)) * weights.k();
  const int64_t fit = std::max<int64_t>(1, static_cast<int64_t>(options_.scratch_bytes) /
                                               row_bytes / kOutputsStep) *
                      kOutputsStep;
  const int64_t turns = (weights.n() + fit - 1) / fit;
  const int64_t outputs = (weights.n() + turns - 1) / turns;  // about the same in each
  const int64_t stepped = (outputs + kOutputsStep - 1) / kOutputsStep * kOutputsStep;
  return static_cast<int32_t>(std::min<int64_t>(stepped, weights.n()));
}

absl::Status CudaLinear::Reserve(const CudaMatrix& weights, int32_t max_rows) {
  if (options_.batch_invariant) return absl::OkStatus();
  const auto grow = [](size_t size, auto* array) {
    if (size <= array->size()) return absl::OkStatus();
    ASSIGN_OR_RETURN(*array, std::remove_pointer_t<decltype(array)>::Create(size));
    return absl::OkStatus();
  };
  const auto rows = static_cast<size_t>(max_rows);
  const auto k = static_cast<size_t>(weights.k());
  if (weights.element() == WeightElement::kFp8) {
    RETURN_IF_ERROR(CheckFp8Library());
    RETURN_IF_ERROR(grow(rows * k, &rounded_input_));
    RETURN_IF_ERROR(grow(rows, &input_scales_));
  } else if (!IsQuantized(weights.element()) || max_rows <= kMaxQuantizedRows) {
    return absl::OkStatus();
  }
  return grow(static_cast<size_t>(OutputsAtOnce(weights)) * k, &scratch_);
}

LibraryProduct CudaLinear::Fp8ProductOf(const CudaLinearArgs& args) const {
  const CudaMatrix& matrix = *args.weights;
  LibraryProduct product = ProductOf(args, nullptr, 0, matrix.n());
  product.input = rounded_input_.data();
  product.input_scales = input_scales_.data();
  product.weights = matrix.packed().data();
  product.weight_scales = matrix.scales().data();
  product.bias = matrix.rounded_bias();
  return product;
}

bool CudaLinear::RunFp8(const CudaLinearArgs& args, WriteInputFn write_input) {
  if (const absl::Status reserved = Reserve(*args.weights, args.rows); !reserved.ok()) {
    context_.Note(reserved);
    return true;
  }
  const LibraryProduct product = Fp8ProductOf(args);
  if (!plans_.Knows(product)) return false;
  const E4m3Rows rounded = {.values = rounded_input_.data(), .scales = input_scales_.data()};
  write_input(&rounded);
  return plans_.Multiply(product);
}

// While outputs are multiplied nothing else is in the scratch: a stream does one after the other.
void CudaLinear::RunUnpacked(const CudaLinearArgs& args) {
  const CudaMatrix& matrix = *args.weights;
  const absl::Status reserved = Reserve(matrix, args.rows);
  if (!reserved.ok()) return context_.Note(reserved);
  const bool gated = args.epilogue == CudaEpilogue::kSiluMul;
  CudaLinearArgs stored = args;
  stored.epilogue = EpilogueOfParts(args.epilogue);
  if (gated) {
    BATON_CHECK(args.pairs != nullptr);
    stored.output = args.pairs;
  }
  const int32_t at_once = OutputsAtOnce(matrix);
  for (int32_t begin = 0; begin < matrix.n(); begin += at_once) {
    const int32_t end = std::min(matrix.n(), begin + at_once);
    Dequantize(context_,
               {.weights = &matrix, .begin = begin, .end = end, .output = scratch_.data()});
    Multiply(ProductOf(stored, scratch_.data(), begin, end));
  }
  if (!gated) return;
  SiluMul(context_, {.input = args.pairs,
                     .output = static_cast<Bf16*>(args.output),
                     .rows = args.rows,
                     .width = matrix.n() / 2});
}

absl::Status CudaLinear::TunePlans(const CudaMatrix& weights, CudaEpilogue epilogue,
                                   std::span<const int32_t> rows) {
  if (options_.batch_invariant) return absl::OkStatus();
  const bool fp8 = weights.element() == WeightElement::kFp8;
  const int32_t n = weights.n();
  const int32_t at_once = OutputsAtOnce(weights);
  const int32_t rest = n % at_once;
  for (const int32_t tuned : rows) {
    const int32_t bucket = ProductPlans::RowsBucket(tuned);
    const CudaLinearArgs args = {.weights = &weights, .epilogue = epilogue, .rows = bucket};
    if (weights.element() == WeightElement::kBf16) {
      RETURN_IF_ERROR(plans_.Tune(Bf16ProductOf(args)));
      continue;
    }
    if (IsQuantized(weights.element()) && bucket <= kMaxQuantizedRows) continue;
    RETURN_IF_ERROR(Reserve(weights, bucket));
    if (fp8) {
      const absl::Status status = plans_.Tune(Fp8ProductOf(args));
      if (!absl::IsUnimplemented(status)) {
        RETURN_IF_ERROR(status);
        continue;
      }
    }
    CudaLinearArgs stored = args;
    stored.epilogue = EpilogueOfParts(epilogue);
    RETURN_IF_ERROR(plans_.Tune(ProductOf(stored, scratch_.data(), 0, at_once)));
    if (rest > 0) RETURN_IF_ERROR(plans_.Tune(ProductOf(stored, scratch_.data(), n - rest, n)));
  }
  return context_.status();
}

}  // namespace baton
