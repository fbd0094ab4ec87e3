#include "tests/support/cuda_emulation/runtime_api.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "common/check.h"
#include "tests/support/cuda_emulation/device.h"
#include "tests/support/cuda_emulation/shared_memory.h"

using namespace baton::cuda_emulation;  // the API's functions are global

namespace {
constexpr int kMultiprocessors = 4;
bool IsDevice(int device) { return device >= 0 && device < TheDevice().count; }

// Whether a copy of `kind` may go there; `to_device`, `from_device`: where the memory is.
bool KindFits(cudaMemcpyKind kind, bool to_device, bool from_device) {
  return kind == cudaMemcpyDefault ||
         (to_device == (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) &&
          from_device == (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice));
}
// Whether the copy that is to start is one that a test lets fail.
bool CopyFails() {
  int& left = TheDevice().copies_until_failure;
  return (left >= 0 && left-- == 0) || CopiesFail();
}
bool IsOnDevice(const void* memory, size_t bytes) {
  return TheDevice().memory.Contains(static_cast<const std::byte*>(memory), bytes);
}
cudaError_t Copy(Lock& lock, void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                 cudaStream_t stream) {
  if (CopyFails()) return Keep(cudaErrorInvalidValue);
  if (bytes == 0) return cudaSuccess;
  const bool to_device = IsOnDevice(to, bytes);
  const bool from_device = IsOnDevice(from, bytes);
  if (!KindFits(kind, to_device, from_device)) return Keep(cudaErrorInvalidValue);
  // Memory that is not pinned is read before the call returns, and written too.
  const bool reads_now = !from_device && !IsPinned(from, bytes);
  const bool writes_now = !to_device && !IsPinned(to, bytes);
  if ((reads_now || writes_now) && Capturing()) return Keep(cudaErrorStreamCaptureUnsupported);
  if (reads_now) {
    const auto* begin = static_cast<const std::byte*>(from);
    Add(stream, [to, copy = std::vector<std::byte>(begin, begin + bytes)] {
      std::memcpy(to, copy.data(), copy.size());
    });
  } else {
    Add(stream, [to, from, bytes] { std::memmove(to, from, bytes); });
  }
  return writes_now ? WaitForEnd(lock, stream) : cudaSuccess;
}
bool CanReachPeer(int device, int peer) { return TheDevice().peers && device != peer; }
}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorMapBufferObjectFailed:
      return "cudaErrorMapBufferObjectFailed";
    case cudaErrorAlreadyMapped:
      return "cudaErrorAlreadyMapped";
    case cudaErrorPeerAccessUnsupported:
      return "cudaErrorPeerAccessUnsupported";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorPeerAccessAlreadyEnabled:
      return "cudaErrorPeerAccessAlreadyEnabled";
    case cudaErrorTooManyPeers:
      return "cudaErrorTooManyPeers";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
  }
  return "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "an error of the emulated device";
}
cudaError_t cudaGetLastError() {
  const Lock lock(DeviceMutex());
  return std::exchange(TheDevice().last_error, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() {
  const Lock lock(DeviceMutex());
  return TheDevice().last_error;
}

cudaError_t cudaGetDeviceCount(int* count) {
  const Lock lock(DeviceMutex());
  *count = TheDevice().count;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = CurrentDevice();
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  const Lock lock(DeviceMutex());
  if (!IsDevice(device)) return Keep(cudaErrorInvalidDevice);
  CurrentDevice() = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  {
    const Lock lock(DeviceMutex());
    if (!IsDevice(device)) return Keep(cudaErrorInvalidDevice);
  }
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "emulated on the host");
  properties->totalGlobalMem = DeviceMemory::kTotalBytes;
  properties->sharedMemPerBlock = kDefaultSharedBytes;
  properties->sharedMemPerBlockOptin = kMaxSharedBytes;
  properties->major = 9;
  properties->multiProcessorCount = kMultiprocessors;
  properties->l2CacheSize = 64 << 10;
  properties->warpSize = kLanes;
  properties->maxThreadsPerBlock = static_cast<int>(kMaxThreads);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  const cudaError_t error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess) return error;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      return cudaSuccess;
  }
  const Lock lock(DeviceMutex());
  return Keep(cudaErrorInvalidValue);
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const Lock lock(DeviceMutex());
  *free_bytes = TheDevice().memory.free_bytes();
  *total_bytes = DeviceMemory::kTotalBytes;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  while (Hangs()) pause();
  Lock lock(DeviceMutex());
  const auto& streams = TheDevice().streams;
  // A device returns an error without having waited, and the capture is lost.
  BATON_CHECK(std::ranges::all_of(streams, [](const auto& s) { return s->captured == nullptr; }))
      << "cudaDeviceSynchronize while a graph is captured";
  std::vector<Point> ends = EndsOfAll();
  std::erase_if(ends, [](const Point& end) { return end.stream->device != CurrentDevice(); });
  return Wait(lock, ends);
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  Lock lock(DeviceMutex());
  *memory = nullptr;
  if (Capturing()) return Keep(cudaErrorStreamCaptureUnsupported);
  if (bytes == 0) return cudaSuccess;
  WaitUntilNothingRuns(lock);
  *memory = TheDevice().memory.Allocate(bytes, CurrentDevice());
  return *memory != nullptr ? cudaSuccess : Keep(cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* memory) {
  Lock lock(DeviceMutex());
  if (memory == nullptr) return cudaSuccess;
  RunUntil(lock, EndsOfAll());
  WaitUntilNothingRuns(lock);
  return TheDevice().memory.Free(static_cast<std::byte*>(memory)) ? cudaSuccess
                                                                  : Keep(cudaErrorInvalidValue);
}
cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  const Lock lock(DeviceMutex());
  *memory = bytes <= DeviceMemory::kTotalBytes ? std::malloc(bytes) : nullptr;
  if (*memory == nullptr) return Keep(cudaErrorMemoryAllocation);
  std::memset(*memory, 0xff, bytes);
  TheDevice().pinned[static_cast<const std::byte*>(*memory)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  Lock lock(DeviceMutex());
  if (memory == nullptr) return cudaSuccess;
  RunUntil(lock, EndsOfAll());
  if (TheDevice().pinned.erase(static_cast<const std::byte*>(memory)) == 0) {
    return Keep(cudaErrorInvalidValue);
  }
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  Lock lock(DeviceMutex());
  return Copy(lock, to, from, bytes, kind, stream);
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  Lock lock(DeviceMutex());
  const cudaError_t error = Copy(lock, to, from, bytes, kind, nullptr);
  return error == cudaSuccess ? WaitForEnd(lock, nullptr) : error;
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  Lock lock(DeviceMutex());
  if (CopyFails()) return Keep(cudaErrorInvalidValue);
  if (width > to_pitch || width > from_pitch) return Keep(cudaErrorInvalidValue);
  if (width == 0 || height == 0) return cudaSuccess;
  const size_t to_bytes = (height - 1) * to_pitch + width;
  const size_t from_bytes = (height - 1) * from_pitch + width;
  const bool to_device = IsOnDevice(to, to_bytes);
  const bool from_device = IsOnDevice(from, from_bytes);
  if (!KindFits(kind, to_device, from_device)) return Keep(cudaErrorInvalidValue);
  // As with cudaMemcpyAsync.
  const bool now =
      (!from_device && !IsPinned(from, from_bytes)) || (!to_device && !IsPinned(to, to_bytes));
  if (now && Capturing()) return Keep(cudaErrorStreamCaptureUnsupported);
  Add(stream, [=] {
    for (size_t row = 0; row < height; ++row) {
      std::memmove(static_cast<std::byte*>(to) + row * to_pitch,
                   static_cast<const std::byte*>(from) + row * from_pitch, width);
    }
  });
  return now ? WaitForEnd(lock, stream) : cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  const Lock lock(DeviceMutex());
  if (!IsDevice(device) || !IsDevice(peer)) return Keep(cudaErrorInvalidDevice);
  *can = CanReachPeer(device, peer) ? 1 : 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  const Lock lock(DeviceMutex());
  if (flags != 0) return Keep(cudaErrorInvalidValue);
  if (!IsDevice(peer) || !CanReachPeer(CurrentDevice(), peer)) return Keep(cudaErrorInvalidDevice);
  const bool is_new = TheDevice().reaching.insert({CurrentDevice(), peer}).second;
  return is_new ? cudaSuccess : Keep(cudaErrorPeerAccessAlreadyEnabled);
}
// Between devices that do not reach one another, too, by way of the host.
cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device,
                                size_t bytes, cudaStream_t stream) {
  Lock lock(DeviceMutex());
  if (!IsDevice(to_device) || !IsDevice(from_device)) return Keep(cudaErrorInvalidDevice);
  return Copy(lock, to, from, bytes, cudaMemcpyDeviceToDevice, stream);
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  const Lock lock(DeviceMutex());
  if (!IsOnDevice(to, bytes)) return Keep(cudaErrorInvalidValue);
  Add(stream, [to, value, bytes] { std::memset(to, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  const Lock lock(DeviceMutex());
  if (value < 0 || static_cast<size_t>(value) > kMaxSharedBytes) return Keep(cudaErrorInvalidValue);
  TheDevice().shared_limits[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}
