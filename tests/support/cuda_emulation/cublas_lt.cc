#include <atomic>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/fp8.h"
#include "tests/support/cuda_emulation/cublasLt.h"

struct CublasLtHandle {};
struct CublasLtPreference {
  uint32_t reduction_schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
};
struct CublasLtMatmul {
  cublasOperation_t transpose_a = CUBLAS_OP_N;
  cublasOperation_t transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  int32_t bias_type = -1;  // that of d
  const float* a_scales = nullptr;
  const float* b_scales = nullptr;
  int32_t a_scale_mode = CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
  int32_t b_scale_mode = CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
};
struct CublasLtLayout {
  cudaDataType type;
  uint64_t rows;
  uint64_t columns;
  int64_t leading;
};

namespace {

constexpr int kAlgorithms = 3;
// What stands in an algorithm.
enum AlgorithmField { kIndex, kColumns, kNarrowSums };
// Of e4m3: from so many inputs on more than so many columns only. H100's library has such a limit
// (github.com/pytorch/ao, issue 4582); where it lies exactly is not known.
constexpr uint64_t kManyE4m3Inputs = 9216;
constexpr uint64_t kFewE4m3Columns = 300;
std::atomic<size_t> version = 130100;
std::atomic<int> product_pieces = 1;

float Load(const void* numbers, int32_t type, size_t i) {
  if (type == CUDA_R_32F) return static_cast<const float*>(numbers)[i];
  if (type == CUDA_R_8F_E4M3) return baton::FromE4m3(static_cast<const uint8_t*>(numbers)[i]);
  return ToFloat(static_cast<const baton::Bf16*>(numbers)[i]);
}

// What is at [row, column] of op(matrix).
float At(const void* numbers, const CublasLtLayout& layout, cublasOperation_t transpose,
         uint64_t row, uint64_t column) {
  if (transpose == CUBLAS_OP_T) std::swap(row, column);
  return Load(numbers, layout.type, row + column * static_cast<size_t>(layout.leading));
}

struct Product {
  CublasLtMatmul matmul;
  CublasLtLayout a_layout, b_layout, d_layout;
  const void* a;
  const void* b;
  const void* c;
  void* d;
  float alpha;
  float beta;
  bool narrow_sums;  // two partial sums of the output's type
  uint64_t first;    // of the sums' inputs; those before it come last
};

// As with the library, another number of columns may be added in another order: sums begin with
// another input for each number that an algorithm was asked for.
uint64_t FirstInput(const cublasLtMatmulAlgo_t& algorithm, uint64_t inner) {
  constexpr uint64_t kStep = 5;
  static const bool one_order = std::getenv("EMULATED_CUDA_ONE_ORDER") != nullptr;
  return one_order ? 0 : algorithm.data[kColumns] * kStep % inner;
}

uint64_t InnerSize(const CublasLtMatmul& matmul, const CublasLtLayout& a) {
  return matmul.transpose_a == CUBLAS_OP_T ? a.rows : a.columns;
}

void Multiply(const Product& p) {
  const uint64_t inner = InnerSize(p.matmul, p.a_layout);
  std::vector<float> left(p.d_layout.rows * inner);  // op(a), row by row
  for (uint64_t row = 0; row < p.d_layout.rows; ++row) {
    for (uint64_t k = 0; k < inner; ++k) {
      left[row * inner + k] = At(p.a, p.a_layout, p.matmul.transpose_a, row, k);
    }
  }
  std::vector<float> right(inner);
  const int32_t bias_type = p.matmul.bias_type < 0 ? p.d_layout.type : p.matmul.bias_type;
  for (uint64_t column = 0; column < p.d_layout.columns; ++column) {
    for (uint64_t k = 0; k < inner; ++k) {
      right[k] = At(p.b, p.b_layout, p.matmul.transpose_b, k, column);
    }
    for (uint64_t row = 0; row < p.d_layout.rows; ++row) {
      const auto add = [&](uint64_t begin, uint64_t end, float sum) {
        for (uint64_t k = begin; k < end; ++k) sum += left[row * inner + k] * right[k];
        return sum;
      };
      const float sum = p.narrow_sums ? ToFloat(baton::ToBf16(add(0, inner / 2, 0.0f))) +
                                            ToFloat(baton::ToBf16(add(inner / 2, inner, 0.0f)))
                                      : add(0, p.first, add(p.first, inner, 0.0f));
      const size_t at = row + column * static_cast<size_t>(p.d_layout.leading);
      float result = p.alpha * sum;
      if (p.matmul.a_scales != nullptr) {
        result *= p.matmul.a_scales[row] * p.matmul.b_scales[column];
      }
      if (p.beta != 0) result += p.beta * Load(p.c, p.d_layout.type, at);
      if (p.matmul.epilogue == CUBLASLT_EPILOGUE_BIAS) {
        result += Load(p.matmul.bias, bias_type, row);
      }
      if (p.d_layout.type == CUDA_R_32F) {
        static_cast<float*>(p.d)[at] = result;
      } else {
        static_cast<baton::Bf16*>(p.d)[at] = baton::ToBf16(result);
      }
    }
  }
}

// What is demanded of e4m3: one matrix turned and not the other, whole pieces of 16 bytes, scales
// for rows and columns, a bias of bf16.
bool FitsE4m3(const CublasLtMatmul& matmul, const CublasLtLayout& a, const CublasLtLayout& b,
              const CublasLtLayout& d) {
  return b.type == CUDA_R_8F_E4M3 && matmul.transpose_a == CUBLAS_OP_T &&
         matmul.transpose_b == CUBLAS_OP_N &&
         (a.rows < kManyE4m3Inputs || b.columns > kFewE4m3Columns) && a.rows % 16 == 0 &&
         a.columns % 16 == 0 && a.leading % 16 == 0 && b.leading % 16 == 0 &&
         matmul.a_scale_mode == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F &&
         matmul.b_scale_mode == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F &&
         matmul.a_scales != nullptr && matmul.b_scales != nullptr &&
         (matmul.epilogue != CUBLASLT_EPILOGUE_BIAS || matmul.bias_type == CUDA_R_16BF) &&
         (d.type == CUDA_R_32F || d.type == CUDA_R_16BF);
}
bool FitsBf16(const CublasLtMatmul& matmul, const CublasLtLayout& a, const CublasLtLayout& b,
              const CublasLtLayout& d) {
  return a.type == CUDA_R_16BF && b.type == CUDA_R_16BF && matmul.a_scales == nullptr &&
         matmul.b_scales == nullptr &&
         // As the library has it: the bias is of the type of d.
         (matmul.bias_type < 0 || matmul.bias_type == d.type);
}

// Whether the shapes fit; `d` [rows of op(a), columns of op(b)].
bool Fits(const CublasLtMatmul& matmul, const CublasLtLayout& a, const CublasLtLayout& b,
          const CublasLtLayout& c, const CublasLtLayout& d) {
  const bool a_turned = matmul.transpose_a == CUBLAS_OP_T;
  const bool b_turned = matmul.transpose_b == CUBLAS_OP_T;
  const auto leads = [](const CublasLtLayout& layout) {
    return layout.leading >= static_cast<int64_t>(layout.rows);
  };
  const bool fits_types =
      a.type == CUDA_R_8F_E4M3 ? FitsE4m3(matmul, a, b, d) : FitsBf16(matmul, a, b, d);
  return fits_types && c.type == d.type && leads(a) && leads(b) && leads(c) && leads(d) &&
         (a_turned ? a.rows : a.columns) == (b_turned ? b.columns : b.rows) &&
         (a_turned ? a.columns : a.rows) == d.rows &&
         (b_turned ? b.rows : b.columns) == d.columns && c.rows == d.rows &&
         c.columns == d.columns && d.rows > 0 && d.columns > 0;
}

template <typename T>
cublasStatus_t Set(T* target, const void* value, size_t bytes) {
  if (bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(target, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

void baton::cuda_emulation::SetCublasLtVersion(size_t new_version) { version = new_version; }
void baton::cuda_emulation::SetProductPieces(int pieces) { product_pieces = pieces; }
size_t cublasLtGetVersion() { return version; }

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      break;
  }
  return "CUBLAS_STATUS_NOT_SUPPORTED";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new CublasLtHandle;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* matmul, cublasComputeType_t,
                                        cudaDataType_t) {
  *matmul = new CublasLtMatmul;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t matmul) {
  delete matmul;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t matmul,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return Set(&matmul->transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return Set(&matmul->transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return Set(&matmul->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return Set(&matmul->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return Set(&matmul->bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER:
      return Set(&matmul->a_scales, value, bytes);
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER:
      return Set(&matmul->b_scales, value, bytes);
    case CUBLASLT_MATMUL_DESC_A_SCALE_MODE:
      return Set(&matmul->a_scale_mode, value, bytes);
    case CUBLASLT_MATMUL_DESC_B_SCALE_MODE:
      return Set(&matmul->b_scale_mode, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t leading) {
  *layout = new CublasLtLayout{type, rows, columns, leading};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t bytes) {
  return Set(attribute == CUBLASLT_MATRIX_LAYOUT_ROWS ? &layout->rows : &layout->columns, value,
             bytes);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new CublasLtPreference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  if (attribute != CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) return CUBLAS_STATUS_SUCCESS;
  return Set(&preference->reduction_schemes, value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t, cublasLtMatmulDesc_t matmul, cublasLtMatrixLayout_t a_layout,
    cublasLtMatrixLayout_t b_layout, cublasLtMatrixLayout_t c_layout,
    cublasLtMatrixLayout_t d_layout, cublasLtMatmulPreference_t preference, int wanted,
    cublasLtMatmulHeuristicResult_t results[], int* found) {
  *found = 0;
  if (!Fits(*matmul, *a_layout, *b_layout, *c_layout, *d_layout)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  for (; *found < wanted && *found < kAlgorithms; ++*found) {
    const bool narrow_sums =
        *found == 0 && d_layout->type == CUDA_R_16BF &&
        (preference->reduction_schemes & ~CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) != 0;
    results[*found] = {
        .algo = {.data = {static_cast<uint64_t>(*found), d_layout->columns, narrow_sums ? 1u : 0u}},
        .workspaceSize = 0,
        .state = CUBLAS_STATUS_SUCCESS,
        .wavesCount = 1.0f,
        .reserved = {}};
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t matmul, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void*, size_t,
                              cudaStream_t stream) {
  if (!Fits(*matmul, *a_layout, *b_layout, *c_layout, *d_layout)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (algorithm == nullptr || algorithm->data[kIndex] >= kAlgorithms) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (algorithm->data[kIndex] == 0 && algorithm->data[kColumns] % 4 == 0 &&
      d_layout->columns % 4 != 0) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const Product product{.matmul = *matmul,
                        .a_layout = *a_layout,
                        .b_layout = *b_layout,
                        .d_layout = *d_layout,
                        .a = a,
                        .b = b,
                        .c = c,
                        .d = d,
                        .alpha = *static_cast<const float*>(alpha),
                        .beta = *static_cast<const float*>(beta),
                        .narrow_sums = algorithm->data[kNarrowSums] != 0,
                        .first = FirstInput(*algorithm, InnerSize(*matmul, *a_layout))};
  baton::cuda_emulation::Enqueue(stream, [product] { Multiply(product); });
  for (int i = 1; i < product_pieces; ++i) baton::cuda_emulation::Enqueue(stream, [] {});
  return CUBLAS_STATUS_SUCCESS;
}
