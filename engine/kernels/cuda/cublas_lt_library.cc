// cuBLASLt's functions, found in its library when the first one is called: a program that has CUDA
// starts without the library, which is large, and on machines that do not have it. Then every call
// fails, and cublasLtGetStatusName says why.
#include <cublasLt.h>
#include <dlfcn.h>

#include <string>

namespace {

struct Library {
  Library() {
    // As the system finds it, else where it was when this was compiled, else where NVIDIA has it.
    for (const char* name : {"libcublasLt.so." BATON_CUBLAS_LT_MAJOR, BATON_CUBLAS_LT_PATH,
                             "/usr/local/cuda/lib64/libcublasLt.so." BATON_CUBLAS_LT_MAJOR}) {
      handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (handle != nullptr) {
        error = "a function that cuBLASLt does not have";
        return;
      }
      const char* why = dlerror();
      if (error.empty() && why != nullptr) error = why;
    }
  }
  void* handle = nullptr;
  std::string error;
};
const Library& TheLibrary() {
  static const auto* library = new Library;
  return *library;
}

template <typename Function>
Function* Find(const char* name) {
  void* handle = TheLibrary().handle;
  return handle == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(handle, name));
}

}  // namespace

#define BATON_FORWARD(name, params, arguments)                                       \
  cublasStatus_t name params {                                                       \
    static const auto function = Find<decltype(name)>(#name);                        \
    return function == nullptr ? CUBLAS_STATUS_NOT_INITIALIZED : function arguments; \
  }

BATON_FORWARD(cublasLtCreate, (cublasLtHandle_t * handle), (handle))
BATON_FORWARD(cublasLtDestroy, (cublasLtHandle_t handle), (handle))
BATON_FORWARD(cublasLtMatmulDescCreate,
              (cublasLtMatmulDesc_t * descriptor, cublasComputeType_t compute,
               cudaDataType_t scale),
              (descriptor, compute, scale))
BATON_FORWARD(cublasLtMatmulDescDestroy, (cublasLtMatmulDesc_t descriptor), (descriptor))
BATON_FORWARD(cublasLtMatmulDescSetAttribute,
              (cublasLtMatmulDesc_t descriptor, cublasLtMatmulDescAttributes_t attribute,
               const void* value, size_t bytes),
              (descriptor, attribute, value, bytes))
BATON_FORWARD(cublasLtMatrixLayoutCreate,
              (cublasLtMatrixLayout_t * layout, cudaDataType type, uint64_t rows, uint64_t columns,
               int64_t leading),
              (layout, type, rows, columns, leading))
BATON_FORWARD(cublasLtMatrixLayoutDestroy, (cublasLtMatrixLayout_t layout), (layout))
BATON_FORWARD(cublasLtMatrixLayoutSetAttribute,
              (cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute,
               const void* value, size_t bytes),
              (layout, attribute, value, bytes))
BATON_FORWARD(cublasLtMatmulPreferenceCreate, (cublasLtMatmulPreference_t * preference),
              (preference))
BATON_FORWARD(cublasLtMatmulPreferenceDestroy, (cublasLtMatmulPreference_t preference),
              (preference))
BATON_FORWARD(cublasLtMatmulPreferenceSetAttribute,
              (cublasLtMatmulPreference_t preference,
               cublasLtMatmulPreferenceAttributes_t attribute, const void* value, size_t bytes),
              (preference, attribute, value, bytes))
BATON_FORWARD(cublasLtMatmulAlgoGetHeuristic,
              (cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
               cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
               cublasLtMatmulPreference_t preference, int requested,
               cublasLtMatmulHeuristicResult_t results[], int* found),
              (handle, operation, a, b, c, d, preference, requested, results, found))
BATON_FORWARD(cublasLtMatmul,
              (cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha,
               const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
               cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
               cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
               const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t workspace_bytes,
               cudaStream_t stream),
              (handle, operation, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout,
               algorithm, workspace, workspace_bytes, stream))

size_t cublasLtGetVersion() {
  static const auto function = Find<decltype(cublasLtGetVersion)>("cublasLtGetVersion");
  return function == nullptr ? 0 : function();
}

const char* cublasLtGetStatusName(cublasStatus_t status) {
  static const auto function = Find<decltype(cublasLtGetStatusName)>("cublasLtGetStatusName");
  return function == nullptr ? TheLibrary().error.c_str() : function(status);
}
