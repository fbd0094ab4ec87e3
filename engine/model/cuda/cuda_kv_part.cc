#include "engine/model/cuda/cuda_kv_part.h"

#include <cuda_runtime.h>

#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/kernels/cuda/copy_rows.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/model/cuda/kv_copy_status.h"

namespace baton {
namespace {

absl::Status NotReached(int32_t device, int32_t other, const std::string& why) {
  return absl::FailedPreconditionError(
      absl::StrCat("cuda:", device, " does not reach the memory of cuda:", other, ", ", why,
                   ": KV of both comes together in host memory only (kv.buffer_device auto or "
                   "cpu)"));
}

// That two devices do not reach one another, and not that one of them has failed.
bool IsOfPeers(cudaError_t error) {
  return error == cudaErrorPeerAccessUnsupported || error == cudaErrorTooManyPeers ||
         error == cudaErrorMapBufferObjectFailed || error == cudaErrorAlreadyMapped ||
         error == cudaErrorNotSupported || error == cudaErrorInvalidDevice;
}

// Between the host and memory of `device`, which is current afterwards; done on return.
cudaError_t CopyOn(int32_t device, void* to, const void* from, size_t bytes) {
  cudaError_t error = cudaSetDevice(device);
  if (error == cudaSuccess) error = cudaMemcpy(to, from, bytes, cudaMemcpyDefault);
  return error == cudaSuccess ? cudaDeviceSynchronize() : error;
}

}  // namespace

cudaError_t OpenKvHandle(std::string_view handle, std::byte** memory) {
  cudaIpcMemHandle_t of_cuda;
  BATON_CHECK(handle.size() == sizeof(of_cuda)) << handle.size();
  std::memcpy(&of_cuda, handle.data(), sizeof(of_cuda));
  void* opened = nullptr;
  const cudaError_t error = cudaIpcOpenMemHandle(&opened, of_cuda, cudaIpcMemLazyEnablePeerAccess);
  if (error == cudaSuccess) *memory = static_cast<std::byte*>(opened);
  return error;
}

ReachedKvPart::ReachedKvPart(ReachedKvPart&& other) noexcept
    : device_(other.device_),
      owner_(other.owner_),
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
  ReachedKvPart reached(device, part);
  reached.base_ = part.region->layer_base[0];
  if (part.device == device) return reached;
  int can = 0;
  cudaError_t error = cudaDeviceCanAccessPeer(&can, device, part.device);
  if (error == cudaSuccess && can == 0) return NotReached(device, part.device, "no peer access");
  if (error == cudaSuccess && part.handle.empty()) {
    error = cudaDeviceEnablePeerAccess(part.device, 0);
    if (error == cudaErrorPeerAccessAlreadyEnabled) {
      cudaGetLastError();
      error = cudaSuccess;
    }
  } else if (error == cudaSuccess) {
    error = OpenKvHandle(part.handle, &reached.base_);
    reached.opened_ = error == cudaSuccess;
  }
  if (error == cudaSuccess) return reached;
  if (!IsOfPeers(error)) return KvCopyStatus(error);
  cudaGetLastError();  // it is told here
  return NotReached(device, part.device, cudaGetErrorName(error));
}

absl::Status ReachedKvPart::Check() const {
  if (owner_ == device_) return absl::OkStatus();
  const auto bytes = static_cast<size_t>(region_->layout.BlockBytes());
  std::byte* const of_owner = region_->layer_base[0];
  std::vector<std::byte> before(bytes);
  std::vector<std::byte> sent(bytes);
  std::vector<std::byte> sent_back(bytes);
  std::vector<std::byte> found(bytes);
  std::vector<std::byte> found_back(bytes);
  RETURN_IF_ERROR(KvCopyStatus(CopyOn(owner_, before.data(), of_owner, bytes)));
  for (size_t i = 0; i < bytes; ++i) {
    sent[i] = ~before[i];
    sent_back[i] = before[i] ^ static_cast<std::byte>(1 + i % 251);
  }
  RETURN_IF_ERROR(KvCopyStatus(CopyOn(owner_, of_owner, sent.data(), bytes)));
  RETURN_IF_ERROR(KvCopyStatus(cudaSetDevice(device_)));
  ASSIGN_OR_RETURN(auto slot, DeviceArray<std::byte>::Create(bytes));
  std::byte* const layer = base_;
  const BlockId block(0);
  const KvSlotArgs args = {.layers = {&layer, 1},
                           .slot = slot.data(),
                           .block_bytes = static_cast<int64_t>(bytes),
                           .blocks = {&block, 1}};
  RETURN_IF_ERROR(KvCopyStatus(GatherKvBlocks(nullptr, args)));
  RETURN_IF_ERROR(KvCopyStatus(CopyOn(device_, found.data(), slot.data(), bytes)));
  RETURN_IF_ERROR(KvCopyStatus(CopyOn(device_, slot.data(), sent_back.data(), bytes)));
  RETURN_IF_ERROR(KvCopyStatus(ScatterKvBlocks(nullptr, args)));
  RETURN_IF_ERROR(KvCopyStatus(cudaDeviceSynchronize()));
  RETURN_IF_ERROR(KvCopyStatus(CopyOn(owner_, found_back.data(), of_owner, bytes)));
  RETURN_IF_ERROR(KvCopyStatus(CopyOn(owner_, of_owner, before.data(), bytes)));
  RETURN_IF_ERROR(KvCopyStatus(cudaSetDevice(device_)));
  if (found == sent && found_back == sent_back) return absl::OkStatus();
  return NotReached(device_, owner_,
                    "peer access is offered, but other bytes arrive (an IOMMU, ACS?)");
}

}  // namespace baton
