// What every CUDA op needs to run: a device, one stream, the GEMM library's handle.
//
// Ops only enqueue on the stream and return; nothing here waits for the device but Synchronize. The
// first error of any launch is kept and returned by status(), so that a step checks once.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace baton {

struct CudaDeviceInfo {
  int32_t device = 0;
  std::string name;
  int32_t compute_capability = 0;  // 90 for 9.0
  int32_t multiprocessors = 0;
  int64_t memory_bytes = 0;
  int64_t free_bytes = 0;    // when the context was made
  int32_t shared_bytes = 0;  // that one thread block may ask for
  int64_t l2_bytes = 0;
};

// Not thread-safe: the step loop's. Lives longer than everything that is enqueued on its stream.
class CudaContext {
 public:
  static constexpr int32_t kMinComputeCapability = 80;

  // NOT_FOUND: there is no such device, or no driver. FAILED_PRECONDITION: it is too old.
  static absl::StatusOr<std::unique_ptr<CudaContext>> Create(int32_t device);
  ~CudaContext();
  CudaContext(const CudaContext&) = delete;
  CudaContext& operator=(const CudaContext&) = delete;

  const CudaDeviceInfo& info() const { return info_; }
  cudaStream_t stream() const { return stream_; }
  cublasLtHandle_t cublas() const { return cublas_; }
  void* workspace() const { return workspace_; }  // of the GEMM library
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;

  // Whether Launch lets kernels in before those in front of them have ended: see launch.h. Not
  // before, and never on devices below kDependentComputeCapability. Weights may be read by then, so
  // none may change any more.
  void SetDependentLaunches(bool dependent) {
    dependent_launches_ = dependent && info_.compute_capability >= kDependentComputeCapability;
  }
  bool dependent_launches() const { return dependent_launches_; }
  static constexpr int32_t kDependentComputeCapability = 90;

  // Makes the device that of the calling thread, as every other call here needs it to be; that
  // which made the context has it already. The first error of all.
  absl::Status MakeCurrent() const;

  // Keeps the first error, as INTERNAL with the op's name, what CUDA calls it and what it means.
  void Note(cudaError_t error, const char* op) const;
  void NoteProduct(cublasStatus_t status, const char* op) const;
  void Note(const absl::Status& status) const;
  const absl::Status& status() const { return status_; }
  // Waits for everything enqueued so far; the first error of it all.
  absl::Status Synchronize() const;
  // The first error that is known, without waiting; also of other streams of the device.
  absl::Status Poll() const;

 private:
  CudaContext() = default;
  CudaDeviceInfo info_;
  cudaStream_t stream_ = nullptr;
  cublasLtHandle_t cublas_ = nullptr;
  void* workspace_ = nullptr;
  bool dependent_launches_ = false;
  mutable absl::Status status_;
};

}  // namespace baton
