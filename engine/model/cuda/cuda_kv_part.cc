#include "engine/model/cuda/cuda_kv_part.h"

#include <cuda_runtime.h>

#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/model/cuda/kv_copy_status.h"

namespace baton {
namespace {

absl::Status NotReached(int32_t device, int32_t other, const std::string& why) {
  return absl::FailedPreconditionError(
      absl::StrCat("cuda:", device, " does not reach the memory of cuda:", other, ", ", why,
                   ": KV of both comes together in host memory only (kv.buffer_device auto or "
                   "cpu)"));
}

// The memory of `part`, of another process, as `device`, which is current, sees it.
cudaError_t OpenHandle(const CudaKvPart& part, std::byte** base) {
  cudaIpcMemHandle_t handle;
  BATON_CHECK(part.handle.size() == sizeof(handle)) << part.handle.size();
  std::memcpy(&handle, part.handle.data(), sizeof(handle));
  void* memory = nullptr;
  const cudaError_t error = cudaIpcOpenMemHandle(&memory, handle, cudaIpcMemLazyEnablePeerAccess);
  *base = static_cast<std::byte*>(memory);
  return error;
}

}  // namespace

ReachedKvPart::ReachedKvPart(ReachedKvPart&& other) noexcept
    : device_(other.device_),
      region_(other.region_),
      base_(other.base_),
      opened_(std::exchange(other.opened_, false)) {}

ReachedKvPart::~ReachedKvPart() {
  if (!opened_) return;
  cudaSetDevice(device_);
  cudaIpcCloseMemHandle(base_);
}

absl::StatusOr<ReachedKvPart> ReachedKvPart::Open(int32_t device, const CudaKvPart& part) {
  RETURN_IF_ERROR(KvCopyStatus(cudaSetDevice(device)));
  ReachedKvPart reached(device, part.region);
  reached.base_ = part.region->layer_base[0];
  if (part.device == device) return reached;
  int can = 0;
  cudaError_t error = cudaDeviceCanAccessPeer(&can, device, part.device);
  if (error == cudaSuccess && can == 0) return NotReached(device, part.device, "no peer access");
  if (error == cudaSuccess && part.handle.empty()) {
    error = cudaDeviceEnablePeerAccess(part.device, 0);
  } else if (error == cudaSuccess) {
    error = OpenHandle(part, &reached.base_);
    reached.opened_ = error == cudaSuccess;
  }
  if (error == cudaSuccess) return reached;
  cudaGetLastError();  // it is told here
  if (error == cudaErrorPeerAccessAlreadyEnabled) return reached;
  return NotReached(device, part.device, cudaGetErrorName(error));
}

}  // namespace baton
