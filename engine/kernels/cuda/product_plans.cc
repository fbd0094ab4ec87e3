#include "engine/kernels/cuda/product_plans.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kernels/cuda/fill_random.h"
#include "engine/kernels/cuda/invariant_linear.h"
#include "engine/kernels/cuda/silu_mul.h"

// The library's matrices are column-major. So that nothing is turned round, the transposed product
// is asked for: output^T [n, rows] = weights [n, k] * input^T [k, rows], where our row-major
// weights are its [k, n] matrix to be transposed, and our input and output are its [k, rows] and
// [n, rows].

namespace baton {

namespace {

constexpr int kCandidates = 8;
constexpr int kTimedRuns = 10;
// What is as fast within this is noise: the first one is kept then, so that processes on equal
// devices mostly choose alike.
constexpr float kClearlyFaster = 0.95f;
constexpr uint32_t kAlignment = 16;

// By number, so that headers of any 12.x will do: CUBLASLT_MATMUL_DESC_A_SCALE_MODE and _B_ are
// from 12.8 on, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F from 12.9 on.
constexpr int kDescAScaleMode = 31;
constexpr int kDescBScaleMode = 32;
constexpr int32_t kScaleOuterVec32F = 3;

// How the library may join sums that are split among blocks: partial sums stay f32, where two of
// the three schemes keep them in the output's type.
uint32_t ReductionSchemes(CudaEpilogue epilogue) {
  return IsBf16(epilogue) ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_MASK;
}

cudaDataType_t OutputType(CudaEpilogue epilogue) {
  return IsBf16(epilogue) ? CUDA_R_16BF : CUDA_R_32F;
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

bool IsBf16(CudaEpilogue epilogue) {
  return epilogue == CudaEpilogue::kStoreBf16 || epilogue == CudaEpilogue::kSiluMul;
}

size_t OutputBytes(CudaEpilogue epilogue) {
  return IsBf16(epilogue) ? sizeof(Bf16) : sizeof(float);
}

// What the library allocates is given back when it is dropped.
struct ProductPlans::Plan {
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t weights = nullptr;
  cublasLtMatrixLayout_t input = nullptr;
  cublasLtMatrixLayout_t output = nullptr;
  std::vector<Way> candidates;  // the first is in use

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

ProductPlans::ProductPlans(const CudaContext& context) : context_(context) {}
ProductPlans::~ProductPlans() = default;

int32_t ProductPlans::RowsBucket(int32_t rows) {
  int32_t bucket = 1;
  while (bucket < rows) bucket *= 2;
  const int32_t between = bucket / 4 * 3;
  return bucket > 16 && rows <= between ? between : bucket;
}

absl::Status ProductPlans::NoWay(const LibraryProduct& product) {
  return absl::UnimplementedError(
      absl::StrCat("cuBLASLt has no way to multiply ", product.rows, " x ", product.k, " by ",
                   product.k, " x ", product.n, product.is_fp8() ? " of e4m3" : " of bf16"));
}

// None is no error.
absl::Status ProductPlans::FindCandidates(CudaEpilogue epilogue, Plan* plan) const {
  cublasLtMatmulPreference_t preference = nullptr;
  Calls calls;
  calls.Add("cublasLtMatmulPreferenceCreate",
            [&] { return cublasLtMatmulPreferenceCreate(&preference); });
  const auto set = [&](const char* name, cublasLtMatmulPreferenceAttributes_t attribute,
                       const auto& value) {
    calls.Add(name, [&] {
      return cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value));
    });
  };
  set("CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES", CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
      uint64_t{CudaContext::kWorkspaceBytes});
  set("CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK", CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      ReductionSchemes(epilogue));
  for (const cublasLtMatmulPreferenceAttributes_t attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    set("CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT", attribute, kAlignment);
  }
  cublasLtMatmulHeuristicResult_t results[kCandidates];
  int found = 0;
  calls.Add("cublasLtMatmulAlgoGetHeuristic", [&] {
    const cublasStatus_t asked = cublasLtMatmulAlgoGetHeuristic(
        context_.cublas(), plan->product, plan->weights, plan->input, plan->output, plan->output,
        preference, kCandidates, results, &found);
    return asked == CUBLAS_STATUS_NOT_SUPPORTED ? CUBLAS_STATUS_SUCCESS : asked;
  });
  if (preference != nullptr) cublasLtMatmulPreferenceDestroy(preference);
  for (int i = 0; i < found; ++i) {
    if (results[i].state == CUBLAS_STATUS_SUCCESS) plan->candidates.emplace_back(results[i].algo);
  }
  return calls.Status();
}

absl::StatusOr<std::unique_ptr<ProductPlans::Plan>> ProductPlans::MakePlan(
    const LibraryProduct& product) const {
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
  RETURN_IF_ERROR(FindCandidates(product.epilogue, plan.get()));
  return plan;
}

absl::StatusOr<ProductPlans::Plan*> ProductPlans::FindPlan(const LibraryProduct& product,
                                                           int32_t rows) {
  LibraryProduct largest = product;
  largest.rows = rows;
  std::unique_ptr<Plan>& plan =
      plans_[Key(product.n, product.k, product.stride, rows, product.epilogue,
                 product.bias != nullptr, product.is_fp8(), product.matrix != nullptr)];
  if (plan == nullptr) {
    ASSIGN_OR_RETURN(plan, MakePlan(largest));
  }
  return plan.get();
}

cublasStatus_t ProductPlans::SetPointers(const Plan& plan, const LibraryProduct& product) {
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

cublasStatus_t ProductPlans::Start(const Plan& plan, const LibraryProduct& product,
                                   const Way& way) const {
  if (!way.has_value()) {
    InvariantLinearBy(context_, InvariantKernel::kFewRows,
                      {.input = static_cast<const Bf16*>(product.input),
                       .weights = product.matrix,
                       .epilogue = product.epilogue,
                       .output = product.output,
                       .rows = product.rows});
    return CUBLAS_STATUS_SUCCESS;  // the context has its errors
  }
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
  const bool gated = product.epilogue == CudaEpilogue::kSiluMul;
  BATON_CHECK(!gated || product.pairs != nullptr);
  void* output = gated ? product.pairs : product.output;
  const cublasStatus_t started =
      cublasLtMatmul(context_.cublas(), plan.product, &alpha, product.weights, plan.weights,
                     product.input, plan.input, &beta, output, plan.output, output, plan.output,
                     &*way, context_.workspace(), CudaContext::kWorkspaceBytes, context_.stream());
  if (gated && started == CUBLAS_STATUS_SUCCESS) {
    SiluMul(context_, {.input = product.pairs,
                       .output = static_cast<Bf16*>(product.output),
                       .rows = product.rows,
                       .width = product.n / 2});
  }
  return started;
}

bool ProductPlans::Knows(const LibraryProduct& product) {
  const absl::StatusOr<Plan*> plan = FindPlan(product, RowsBucket(product.rows));
  return !plan.ok() || !(*plan)->candidates.empty();  // an error is Multiply's to tell
}

bool ProductPlans::Multiply(const LibraryProduct& product) {
  cublasStatus_t started = CUBLAS_STATUS_NOT_SUPPORTED;
  // What does for a bucket's largest number of rows need not do for another one, which then has a
  // plan of its own.
  for (const int32_t rows : {RowsBucket(product.rows), product.rows}) {
    const absl::StatusOr<Plan*> plan = FindPlan(product, rows);
    if (!plan.ok()) {
      context_.Note(plan.status());
      return true;
    }
    if ((*plan)->candidates.empty()) return false;
    started = Start(**plan, product, (*plan)->candidates.front());
    if (started != CUBLAS_STATUS_NOT_SUPPORTED && started != CUBLAS_STATUS_INVALID_VALUE) break;
  }
  if (started == CUBLAS_STATUS_NOT_SUPPORTED) return false;
  context_.NoteProduct(started, "linear");
  return true;
}

absl::StatusOr<float> ProductPlans::TimeCandidate(const Plan& plan, const LibraryProduct& product,
                                                  const Way& way, CudaCacheFlush* flush) const {
  float best_ms = std::numeric_limits<float>::infinity();
  cudaEvent_t start = nullptr;
  cudaEvent_t end = nullptr;
  context_.Note(cudaEventCreate(&start), "tune");
  context_.Note(cudaEventCreate(&end), "tune");
  // The first run is not timed. Weights come from memory in a step: nothing may be left in a cache.
  for (int run = 0; run <= kTimedRuns && context_.status().ok(); ++run) {
    flush->Run(context_);
    context_.Note(cudaEventRecord(start, context_.stream()), "tune");
    if (Start(plan, product, way) != CUBLAS_STATUS_SUCCESS) break;
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

absl::Status ProductPlans::Tune(const LibraryProduct& product) {
  const auto rows = static_cast<size_t>(product.rows);
  LibraryProduct timed = product;
  ASSIGN_OR_RETURN(Plan * plan, FindPlan(product, RowsBucket(product.rows)));
  DeviceArray<Bf16> input;
  DeviceArray<Bf16> pairs;
  const bool gated = product.epilogue == CudaEpilogue::kSiluMul;
  const auto width = static_cast<size_t>(gated ? product.n / 2 : product.stride);
  ASSIGN_OR_RETURN(auto output,
                   DeviceArray<std::byte>::Create(rows * width * OutputBytes(product.epilogue)));
  ASSIGN_OR_RETURN(CudaCacheFlush flush, CudaCacheFlush::Create(context_));
  if (!product.is_fp8()) {
    ASSIGN_OR_RETURN(input, DeviceArray<Bf16>::Create(rows * static_cast<size_t>(product.k)));
    // Not zeros, which cost a device less power and so less time.
    FillRandom(context_, {.output = input.data(),
                          .row_stride = product.k,
                          .tensor = {.seed = 1, .radius = 1.0f},
                          .rows = product.rows,
                          .columns = product.k});
    timed.input = input.data();
  }
  context_.Note(cudaMemsetAsync(output.data(), 0, output.bytes(), context_.stream()), "tune");
  timed.output = output.data();
  if (gated) {
    ASSIGN_OR_RETURN(pairs, DeviceArray<Bf16>::Create(rows * static_cast<size_t>(product.n)));
    timed.pairs = pairs.data();
  }
  if (product.matrix != nullptr && product.rows <= kMaxFewRows &&
      std::ranges::all_of(plan->candidates, [](const Way& way) { return way.has_value(); })) {
    plan->candidates.emplace_back(std::nullopt);
  }
  std::vector<Way> work;
  float best_ms = std::numeric_limits<float>::infinity();
  for (const Way& candidate : plan->candidates) {
    ASSIGN_OR_RETURN(const float elapsed_ms, TimeCandidate(*plan, timed, candidate, &flush));
    if (elapsed_ms == std::numeric_limits<float>::infinity()) continue;
    work.push_back(candidate);
    if (work.size() > 1 && elapsed_ms >= best_ms * kClearlyFaster) continue;
    best_ms = elapsed_ms;
    std::swap(work.front(), work.back());
  }
  plan->candidates = std::move(work);
  if (plan->candidates.empty()) return NoWay(product);
  return context_.status();
}

}  // namespace baton
