#include "engine/kernels/cuda/context.h"

#include "absl/strings/str_cat.h"

namespace baton {

namespace {

absl::Status NoDevice(int32_t device, cudaError_t error) {
  cudaGetLastError();  // it is told here
  return absl::NotFoundError(absl::StrCat("no CUDA device ", device, ": ", cudaGetErrorName(error),
                                          ", ", cudaGetErrorString(error)));
}

absl::StatusOr<CudaDeviceInfo> ReadInfo(int32_t device) {
  cudaDeviceProp properties;
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  cudaError_t error = cudaSetDevice(device);
  if (error == cudaSuccess) error = cudaGetDeviceProperties(&properties, device);
  if (error == cudaSuccess) error = cudaMemGetInfo(&free_bytes, &total_bytes);
  if (error != cudaSuccess) return NoDevice(device, error);
  return CudaDeviceInfo{.device = device,
                        .name = properties.name,
                        .compute_capability = properties.major * 10 + properties.minor,
                        .multiprocessors = properties.multiProcessorCount,
                        .memory_bytes = static_cast<int64_t>(total_bytes),
                        .free_bytes = static_cast<int64_t>(free_bytes),
                        .shared_bytes = static_cast<int32_t>(properties.sharedMemPerBlockOptin),
                        .l2_bytes = properties.l2CacheSize};
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaContext>> CudaContext::Create(int32_t device) {
  absl::StatusOr<CudaDeviceInfo> info = ReadInfo(device);
  if (!info.ok()) return info.status();
  if (info->compute_capability < kMinComputeCapability) {
    return absl::FailedPreconditionError(
        absl::StrCat("CUDA device ", device, ", ", info->name, ", has compute capability ",
                     info->compute_capability / 10, ".", info->compute_capability % 10, "; ",
                     kMinComputeCapability / 10, ".", kMinComputeCapability % 10, " is needed"));
  }
  std::unique_ptr<CudaContext> context(new CudaContext());
  context->info_ = *info;
  context->Note(cudaStreamCreateWithFlags(&context->stream_, cudaStreamNonBlocking), "stream");
  context->Note(cudaMalloc(&context->workspace_, kWorkspaceBytes), "workspace of products");
  if (!context->status().ok()) return context->status();
  const cublasStatus_t created = cublasLtCreate(&context->cublas_);
  if (created != CUBLAS_STATUS_SUCCESS) {
    return absl::InternalError(absl::StrCat("cublasLtCreate: ", cublasLtGetStatusName(created)));
  }
  return context;
}

CudaContext::~CudaContext() {
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  if (cublas_ != nullptr) cublasLtDestroy(cublas_);
  cudaFree(workspace_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

absl::Status CudaContext::MakeCurrent() const {
  Note(cudaSetDevice(info_.device), "set device");
  return status_;
}

void CudaContext::Note(cudaError_t error, const char* op) const {
  if (error == cudaSuccess || !status_.ok()) return;
  status_ = absl::InternalError(
      absl::StrCat(op, ": ", cudaGetErrorName(error), ", ", cudaGetErrorString(error)));
}

void CudaContext::NoteProduct(cublasStatus_t status, const char* op) const {
  if (status == CUBLAS_STATUS_SUCCESS || !status_.ok()) return;
  status_ = absl::InternalError(absl::StrCat(op, ": ", cublasLtGetStatusName(status)));
}

void CudaContext::Note(const absl::Status& status) const {
  if (status_.ok()) status_ = status;
}

absl::Status CudaContext::Synchronize() const {
  Note(cudaStreamSynchronize(stream_), "synchronize");
  return status_;
}

absl::Status CudaContext::Poll() const {
  const cudaError_t state = cudaStreamQuery(stream_);
  if (state != cudaErrorNotReady) Note(state, "device");
  return status_;
}

}  // namespace baton
