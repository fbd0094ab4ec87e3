#include "engine/kernels/cuda/linear.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/kernels/cuda/dequantize.h"
#include "engine/kernels/cuda/quantize_rows.h"
#include "engine/kernels/cuda/quantized_linear.h"

// The library's matrices are column-major. So that nothing is turned round, the transposed product
// is asked for: output^T [n, rows] = weights [n, k] * input^T [k, rows], where our row-major
// weights are its [k, n] matrix to be transposed, and our input and output are its [k, rows] and
// [n, rows].

namespace baton {

namespace {

constexpr int kCandidates = 8;
constexpr int kTimedRuns = 3;
constexpr uint32_t kAlignment = 16;
constexpr int32_t kOutputsStep = 128;  // of outputs that are made bf16 together

// By number, so that headers of any 12.x will do: CUBLASLT_MATMUL_DESC_A_SCALE_MODE and _B_ are
// from 12.8 on, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F from 12.9 on.
constexpr int kDescAScaleMode = 31;
constexpr int kDescBScaleMode = 32;
constexpr int32_t kScaleOuterVec32F = 3;

cudaDataType_t OutputType(CudaEpilogue epilogue) {
  return epilogue == CudaEpilogue::kStoreBf16 ? CUDA_R_16BF : CUDA_R_32F;
}
size_t OutputBytes(CudaEpilogue epilogue) {
  return epilogue == CudaEpilogue::kStoreBf16 ? sizeof(Bf16) : sizeof(float);
}

// Collects calls of the library until one fails.
class Calls {
 public:
  template <typename Call>
  void Add(const char* name, Call call) {
    if (status_ != CUBLAS_STATUS_SUCCESS) return;
    status_ = call();
    name_ = name;
  }
  template <typename T>
  void Set(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute, const T& value) {
    Add("cublasLtMatmulDescSetAttribute",
        [&] { return cublasLtMatmulDescSetAttribute(product, attribute, &value, sizeof(value)); });
  }
  absl::Status Status() const {
    if (status_ == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
    return absl::InternalError(absl::StrCat(name_, ": ", cublasLtGetStatusName(status_)));
  }

 private:
  cublasStatus_t status_ = CUBLAS_STATUS_SUCCESS;
  const char* name_ = "";
};

}  // namespace

absl::Status CheckFp8Library() {
  const size_t version = cublasLtGetVersion();
  if (version >= kFp8LibraryVersion) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("weights of fp8 with cuBLASLt of version ", version,
                                               "; it takes scales for rows and outputs from ",
                                               kFp8LibraryVersion, " on"));
}

// What the library allocates is given back when it is dropped.
struct CudaLinear::Plan {
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t weights = nullptr;
  cublasLtMatrixLayout_t input = nullptr;
  cublasLtMatrixLayout_t output = nullptr;
  std::vector<cublasLtMatmulAlgo_t> candidates;  // the first is in use

  Plan() = default;
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    if (product != nullptr) cublasLtMatmulDescDestroy(product);
    for (cublasLtMatrixLayout_t layout : {weights, input, output}) {
      if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
    }
  }
};

CudaLinear::CudaLinear(const CudaContext& context, size_t scratch_bytes)
    : context_(context), scratch_bytes_(scratch_bytes) {}
CudaLinear::~CudaLinear() = default;

int32_t CudaLinear::RowsBucket(int32_t rows) {
  int32_t bucket = 1;
  while (bucket < rows) bucket *= 2;
  const int32_t between = bucket / 4 * 3;
  return bucket > 16 && rows <= between ? between : bucket;
}

absl::Status CudaLinear::FindCandidates(Plan* plan) const {
  cublasLtMatmulPreference_t preference = nullptr;
  Calls calls;
  calls.Add("cublasLtMatmulPreferenceCreate",
            [&] { return cublasLtMatmulPreferenceCreate(&preference); });
  const uint64_t workspace_bytes = CudaContext::kWorkspaceBytes;
  calls.Add("CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES", [&] {
    return cublasLtMatmulPreferenceSetAttribute(preference,
                                                CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                &workspace_bytes, sizeof(workspace_bytes));
  });
  for (const cublasLtMatmulPreferenceAttributes_t attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    calls.Add("CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT", [&] {
      return cublasLtMatmulPreferenceSetAttribute(preference, attribute, &kAlignment,
                                                  sizeof(kAlignment));
    });
  }
  cublasLtMatmulHeuristicResult_t results[kCandidates];
  int found = 0;
  calls.Add("cublasLtMatmulAlgoGetHeuristic", [&] {
    return cublasLtMatmulAlgoGetHeuristic(context_.cublas(), plan->product, plan->weights,
                                          plan->input, plan->output, plan->output, preference,
                                          kCandidates, results, &found);
  });
  if (preference != nullptr) cublasLtMatmulPreferenceDestroy(preference);
  for (int i = 0; i < found; ++i) {
    if (results[i].state == CUBLAS_STATUS_SUCCESS) plan->candidates.push_back(results[i].algo);
  }
  return calls.Status();
}

absl::StatusOr<std::unique_ptr<CudaLinear::Plan>> CudaLinear::MakePlan(
    const Product& product) const {
  auto plan = std::make_unique<Plan>();
  Calls calls;
  calls.Add("cublasLtMatmulDescCreate", [&] {
    return cublasLtMatmulDescCreate(&plan->product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  });
  calls.Set(plan->product, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  if (product.bias != nullptr) {
    calls.Set(plan->product, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    calls.Set(plan->product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
              product.is_fp8() ? CUDA_R_16BF : OutputType(product.epilogue));
  }
  if (product.is_fp8()) {
    for (const int mode : {kDescAScaleMode, kDescBScaleMode}) {
      calls.Set(plan->product, static_cast<cublasLtMatmulDescAttributes_t>(mode),
                kScaleOuterVec32F);
    }
  }
  calls.Add("cublasLtMatmulDescSetAttribute", [&] { return SetPointers(*plan, product); });
  const auto add_layout = [&](cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                              int32_t layout_rows, int32_t layout_columns, int32_t stride) {
    calls.Add("cublasLtMatrixLayoutCreate", [&] {
      return cublasLtMatrixLayoutCreate(layout, type, static_cast<uint64_t>(layout_rows),
                                        static_cast<uint64_t>(layout_columns), stride);
    });
  };
  const cudaDataType_t factors = product.is_fp8() ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
  add_layout(&plan->weights, factors, product.k, product.n, product.k);
  add_layout(&plan->input, factors, product.k, product.rows, product.k);
  add_layout(&plan->output, OutputType(product.epilogue), product.n, product.rows, product.stride);
  RETURN_IF_ERROR(calls.Status());
  RETURN_IF_ERROR(FindCandidates(plan.get()));
  if (plan->candidates.empty()) {
    return absl::InternalError(absl::StrCat("cuBLASLt knows no way to multiply ", product.rows,
                                            " x ", product.k, " by ", product.k, " x ", product.n));
  }
  return plan;
}

absl::StatusOr<CudaLinear::Plan*> CudaLinear::FindPlan(const Product& product) {
  Product largest = product;
  largest.rows = RowsBucket(product.rows);
  std::unique_ptr<Plan>& plan =
      plans_[Key(product.n, product.k, product.stride, largest.rows, product.epilogue,
                 product.bias != nullptr, product.is_fp8())];
  if (plan == nullptr) {
    ASSIGN_OR_RETURN(plan, MakePlan(largest));
  }
  return plan.get();
}

cublasStatus_t CudaLinear::SetPointers(const Plan& plan, const Product& product) {
  const std::pair<cublasLtMatmulDescAttributes_t, const void*> pointers[] = {
      {CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias},
      {CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, product.weight_scales},
      {CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, product.input_scales}};
  for (const auto& [attribute, pointer] : pointers) {
    if (pointer == nullptr) continue;
    const cublasStatus_t set =
        cublasLtMatmulDescSetAttribute(plan.product, attribute, &pointer, sizeof(pointer));
    if (set != CUBLAS_STATUS_SUCCESS) return set;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CudaLinear::Start(const Plan& plan, const Product& product,
                                 const cublasLtMatmulAlgo_t* algorithm) const {
  const auto columns = static_cast<uint64_t>(product.rows);
  for (cublasLtMatrixLayout_t layout : {plan.input, plan.output}) {
    const cublasStatus_t set = cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_COLS,
                                                                &columns, sizeof(columns));
    if (set != CUBLAS_STATUS_SUCCESS) return set;
  }
  const cublasStatus_t set = SetPointers(plan, product);
  if (set != CUBLAS_STATUS_SUCCESS) return set;
  const float alpha = 1.0f;
  const float beta = product.epilogue == CudaEpilogue::kAddToF32 ? 1.0f : 0.0f;
  return cublasLtMatmul(context_.cublas(), plan.product, &alpha, product.weights, plan.weights,
                        product.input, plan.input, &beta, product.output, plan.output,
                        product.output, plan.output, algorithm, context_.workspace(),
                        CudaContext::kWorkspaceBytes, context_.stream());
}

void CudaLinear::Multiply(const Product& product) {
  const absl::StatusOr<Plan*> plan = FindPlan(product);
  if (!plan.ok()) return context_.Note(plan.status());
  cublasStatus_t status = Start(**plan, product, &(*plan)->candidates.front());
  // What was found for a bucket's largest number of rows need not do for another one.
  if (status != CUBLAS_STATUS_SUCCESS) status = Start(**plan, product, nullptr);
  context_.NoteProduct(status, "linear");
}

CudaLinear::Product CudaLinear::ProductOf(const CudaLinearArgs& args, const Bf16* weights,
                                          int32_t begin, int32_t end) {
  const CudaMatrix& matrix = *args.weights;
  const bool bf16 = args.epilogue == CudaEpilogue::kStoreBf16;
  Product product = {.input = args.input,
                     .weights = weights,
                     .rows = args.rows,
                     .n = end - begin,
                     .k = matrix.k(),
                     .stride = matrix.n(),
                     .epilogue = args.epilogue};
  if (matrix.has_bias() && bf16) product.bias = matrix.rounded_bias() + begin;
  if (matrix.has_bias() && !bf16) product.bias = matrix.bias() + begin;
  product.output = static_cast<std::byte*>(args.output) +
                   static_cast<size_t>(begin) * OutputBytes(args.epilogue);
  return product;
}

void CudaLinear::Run(const CudaLinearArgs& args) {
  if (args.rows == 0) return;
  const CudaMatrix& matrix = *args.weights;
  if (matrix.element() == WeightElement::kFp8) {
    RunFp8(args);
  } else if (matrix.element() == WeightElement::kBf16) {
    Multiply(ProductOf(args, matrix.weights().data(), 0, matrix.n()));
  } else if (args.rows <= kMaxQuantizedRows) {
    QuantizedLinear(context_, args);
  } else {
    RunQuantized(args);
  }
}

int32_t CudaLinear::OutputsAtOnce(const CudaMatrix& weights) const {
  const auto row_bytes = static_cast<int64_t>(sizeof(Bf16)) * weights.k();
  const int64_t fit =
      std::max<int64_t>(1, static_cast<int64_t>(scratch_bytes_) / row_bytes / kOutputsStep) *
      kOutputsStep;
  const int64_t turns = (weights.n() + fit - 1) / fit;
  const int64_t outputs = (weights.n() + turns - 1) / turns;  // about the same in each
  const int64_t stepped = (outputs + kOutputsStep - 1) / kOutputsStep * kOutputsStep;
  return static_cast<int32_t>(std::min<int64_t>(stepped, weights.n()));
}

absl::Status CudaLinear::Reserve(const CudaMatrix& weights, int32_t max_rows) {
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
    return grow(rows, &input_scales_);
  }
  if (!IsQuantized(weights.element()) || max_rows <= kMaxQuantizedRows) return absl::OkStatus();
  return grow(static_cast<size_t>(OutputsAtOnce(weights)) * k, &scratch_);
}

CudaLinear::Product CudaLinear::Fp8ProductOf(const CudaLinearArgs& args) const {
  const CudaMatrix& matrix = *args.weights;
  Product product = ProductOf(args, nullptr, 0, matrix.n());
  product.input = rounded_input_.data();
  product.input_scales = input_scales_.data();
  product.weights = matrix.packed().data();
  product.weight_scales = matrix.scales().data();
  product.bias = matrix.rounded_bias();
  return product;
}

void CudaLinear::RunFp8(const CudaLinearArgs& args) {
  const absl::Status reserved = Reserve(*args.weights, args.rows);
  if (!reserved.ok()) return context_.Note(reserved);
  QuantizeRows(context_, {.input = args.input,
                          .output = rounded_input_.data(),
                          .scales = input_scales_.data(),
                          .rows = args.rows,
                          .width = args.weights->k()});
  Multiply(Fp8ProductOf(args));
}

// While outputs are multiplied nothing else is in the scratch: a stream does one after the other.
void CudaLinear::RunQuantized(const CudaLinearArgs& args) {
  const CudaMatrix& matrix = *args.weights;
  const absl::Status reserved = Reserve(matrix, args.rows);
  if (!reserved.ok()) return context_.Note(reserved);
  const int32_t at_once = OutputsAtOnce(matrix);
  for (int32_t begin = 0; begin < matrix.n(); begin += at_once) {
    const int32_t end = std::min(matrix.n(), begin + at_once);
    Dequantize(context_,
               {.weights = &matrix, .begin = begin, .end = end, .output = scratch_.data()});
    Multiply(ProductOf(args, scratch_.data(), begin, end));
  }
}

absl::StatusOr<float> CudaLinear::TimeCandidate(const Plan& plan, const Product& product,
                                                const cublasLtMatmulAlgo_t& algorithm,
                                                DeviceArray<std::byte>* cache_filler) const {
  float best_ms = std::numeric_limits<float>::infinity();
  cudaEvent_t start = nullptr;
  cudaEvent_t end = nullptr;
  context_.Note(cudaEventCreate(&start), "tune");
  context_.Note(cudaEventCreate(&end), "tune");
  // The first run is not timed. Weights come from memory in a step: nothing may be left in a cache.
  for (int run = 0; run <= kTimedRuns && context_.status().ok(); ++run) {
    context_.Note(
        cudaMemsetAsync(cache_filler->data(), run, cache_filler->bytes(), context_.stream()),
        "tune");
    context_.Note(cudaEventRecord(start, context_.stream()), "tune");
    if (Start(plan, product, &algorithm) != CUBLAS_STATUS_SUCCESS) break;
    context_.Note(cudaEventRecord(end, context_.stream()), "tune");
    context_.Note(cudaEventSynchronize(end), "tune");
    float elapsed_ms = 0;
    context_.Note(cudaEventElapsedTime(&elapsed_ms, start, end), "tune");
    if (run > 0) best_ms = std::min(best_ms, elapsed_ms);
  }
  if (start != nullptr) cudaEventDestroy(start);
  if (end != nullptr) cudaEventDestroy(end);
  RETURN_IF_ERROR(context_.status());
  return best_ms;
}

// Over input and output of its own, but for an input of e4m3: that is in the scratch.
absl::Status CudaLinear::Tune(const Product& product) {
  const auto rows = static_cast<size_t>(product.rows);
  Product timed = product;
  ASSIGN_OR_RETURN(Plan * plan, FindPlan(product));
  ASSIGN_OR_RETURN(auto input, DeviceArray<Bf16>::Create(rows * static_cast<size_t>(product.k)));
  ASSIGN_OR_RETURN(auto output,
                   DeviceArray<std::byte>::Create(rows * static_cast<size_t>(product.stride) *
                                                  OutputBytes(product.epilogue)));
  ASSIGN_OR_RETURN(auto cache_filler,
                   DeviceArray<std::byte>::Create(static_cast<size_t>(context_.info().l2_bytes)));
  context_.Note(cudaMemsetAsync(input.data(), 0, input.bytes(), context_.stream()), "tune");
  context_.Note(cudaMemsetAsync(output.data(), 0, output.bytes(), context_.stream()), "tune");
  if (!product.is_fp8()) timed.input = input.data();
  timed.output = output.data();
  size_t best = 0;
  float best_ms = std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < plan->candidates.size(); ++i) {
    ASSIGN_OR_RETURN(const float elapsed_ms,
                     TimeCandidate(*plan, timed, plan->candidates[i], &cache_filler));
    if (elapsed_ms < best_ms) {
      best_ms = elapsed_ms;
      best = i;
    }
  }
  std::swap(plan->candidates.front(), plan->candidates[best]);
  return context_.status();
}

absl::Status CudaLinear::TunePlans(const CudaMatrix& weights, CudaEpilogue epilogue,
                                   std::span<const int32_t> rows) {
  const bool quantized = IsQuantized(weights.element());
  const int32_t n = weights.n();
  const int32_t at_once = quantized ? OutputsAtOnce(weights) : n;
  const int32_t rest = n % at_once;
  for (const int32_t tuned : rows) {
    const int32_t bucket = RowsBucket(tuned);
    if (quantized && bucket <= kMaxQuantizedRows) continue;
    RETURN_IF_ERROR(Reserve(weights, bucket));
    const CudaLinearArgs args = {.weights = &weights, .epilogue = epilogue, .rows = bucket};
    if (weights.element() == WeightElement::kFp8) {
      RETURN_IF_ERROR(Tune(Fp8ProductOf(args)));
      continue;
    }
    const Bf16* factor = quantized ? scratch_.data() : weights.weights().data();
    RETURN_IF_ERROR(Tune(ProductOf(args, factor, 0, at_once)));
    if (rest > 0) RETURN_IF_ERROR(Tune(ProductOf(args, factor, n - rest, n)));
  }
  return context_.status();
}

}  // namespace baton
