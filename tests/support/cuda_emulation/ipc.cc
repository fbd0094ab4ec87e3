// Memory that processes share by handles: a handle says where the owner's memory file is.
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "tests/support/cuda_emulation/device.h"
#include "tests/support/cuda_emulation/runtime_api.h"

using namespace baton::cuda_emulation;  // the API's functions are global

namespace {

struct HandleContent {
  int64_t owner = 0;
  DeviceMemory::Shared shared;
};
static_assert(sizeof(HandleContent) <= sizeof(cudaIpcMemHandle_t));
static_assert(std::has_unique_object_representations_v<HandleContent>, "handles are compared");

}  // namespace

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* memory) {
  Lock lock(DeviceMutex());
  WaitUntilNothingRuns(lock);
  const auto shared = TheDevice().memory.Share(static_cast<std::byte*>(memory));
  if (!shared.has_value()) return Keep(cudaErrorInvalidValue);
  const HandleContent content{.owner = getpid(), .shared = *shared};
  *handle = {};
  std::memcpy(handle->reserved, &content, sizeof(content));
  return cudaSuccess;
}

cudaError_t cudaIpcOpenMemHandle(void** memory, cudaIpcMemHandle_t handle, unsigned flags) {
  Lock lock(DeviceMutex());
  WaitUntilNothingRuns(lock);
  HandleContent content;
  std::memcpy(&content, handle.reserved, sizeof(content));
  if (flags != cudaIpcMemLazyEnablePeerAccess || content.owner == getpid()) {
    return Keep(cudaErrorInvalidValue);
  }
  Device& device = TheDevice();
  const int current = CurrentDevice();
  if (content.shared.device != current) {
    if (!device.peers) return Keep(cudaErrorMapBufferObjectFailed);
    device.reaching.insert({current, content.shared.device});
  }
  const std::string path =
      "/proc/" + std::to_string(content.owner) + "/fd/" + std::to_string(content.shared.fd);
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return Keep(cudaErrorMapBufferObjectFailed);
  DeviceMemory::Shared shared = content.shared;
  shared.fd = fd;
  const bool loses_writes = content.shared.device != current && device.peers_lose_writes;
  *memory = device.memory.Import(shared, current, loses_writes);
  close(fd);  // the mapping keeps the file
  return *memory != nullptr ? cudaSuccess : Keep(cudaErrorMapBufferObjectFailed);
}

cudaError_t cudaIpcCloseMemHandle(void* memory) {
  Lock lock(DeviceMutex());
  RunUntil(lock, EndsOfAll());
  WaitUntilNothingRuns(lock);
  return TheDevice().memory.Drop(static_cast<std::byte*>(memory)) ? cudaSuccess
                                                                  : Keep(cudaErrorInvalidValue);
}
