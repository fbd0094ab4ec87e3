#include "tests/support/cuda_emulation/runtime_api.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "tests/support/cuda_emulation/device_memory.h"
#include "tests/support/cuda_emulation/shared_memory.h"

using Work = std::function<void()>;

struct CUgraph_st {
  std::vector<Work> nodes;
};
struct CUgraphExec_st {
  std::vector<Work> nodes;
};
struct CUstream_st {
  std::unique_ptr<CUgraph_st> captured;  // null: it does not capture
};
struct CUevent_st {
  int64_t ran_before = -1;  // pieces of work; -1: not recorded, or not yet there
};

namespace baton::cuda_emulation {

namespace {

constexpr int kMultiprocessors = 4;
constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kMaxGridYz = 65535;
constexpr size_t kDefaultSharedBytes = 48 << 10;

struct Device {
  DeviceMemory memory;
  std::vector<Work> enqueued;
  int64_t ran = 0;
  std::map<const std::byte*, size_t> pinned;
  std::map<const void*, size_t> shared_limits;  // by kernel
  std::set<cudaStream_t> capturing;
  cudaError_t last_error = cudaSuccess;
};
Device& TheDevice() {
  static auto* device = new Device;
  return *device;
}

cudaError_t Keep(cudaError_t error) {
  if (error != cudaSuccess) TheDevice().last_error = error;
  return error;
}

void RunEnqueued() {
  Device& device = TheDevice();
  std::vector<Work> work;
  work.swap(device.enqueued);
  if (work.empty()) return;
  device.memory.Open();
  for (const Work& piece : work) {
    piece();
    ++device.ran;
  }
  device.memory.Close();
}

bool IsPinned(const void* memory, size_t bytes) {
  const auto& pinned = TheDevice().pinned;
  const auto* begin = static_cast<const std::byte*>(memory);
  auto after = pinned.upper_bound(begin);
  if (after == pinned.begin()) return false;
  --after;
  return begin + bytes <= after->first + after->second;
}

bool Capturing() { return !TheDevice().capturing.empty(); }

// Waiting is not allowed while a graph is captured.
cudaError_t WaitForAll() {
  if (Capturing()) return Keep(cudaErrorStreamCaptureUnsupported);
  RunEnqueued();
  return cudaSuccess;
}

}  // namespace

void Enqueue(cudaStream_t stream, Work work) {
  if (stream != nullptr && stream->captured != nullptr) {
    stream->captured->nodes.push_back(std::move(work));
  } else {
    TheDevice().enqueued.push_back(std::move(work));
  }
}

cudaError_t EnqueueKernel(const cudaLaunchConfig_t& config, const void* kernel, Work thread) {
  const dim3& grid = config.gridDim;
  const dim3& block = config.blockDim;
  const bool has_shape = grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.y <= kMaxGridYz &&
                         grid.z <= kMaxGridYz && block.x > 0 && block.y > 0 && block.z > 0 &&
                         block.x * block.y * block.z <= kMaxThreads;
  if (!has_shape) return Keep(cudaErrorInvalidConfiguration);
  const auto limit = TheDevice().shared_limits.find(kernel);
  const size_t allowed =
      limit == TheDevice().shared_limits.end() ? kDefaultSharedBytes : limit->second;
  if (config.dynamicSmemBytes > allowed) return Keep(cudaErrorInvalidValue);
  Enqueue(config.stream,
          [launch = KernelLaunch{.grid = grid,
                                 .block = block,
                                 .shared_bytes = config.dynamicSmemBytes,
                                 .thread = std::move(thread)}] { RunKernel(launch); });
  return cudaSuccess;
}

bool IsDeviceMemory(const void* memory, size_t bytes) {
  return TheDevice().memory.Contains(static_cast<const std::byte*>(memory), bytes);
}

}  // namespace baton::cuda_emulation

using namespace baton::cuda_emulation;  // the API's functions are global

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
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
  }
  return "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "an error of the emulated device";
}
cudaError_t cudaGetLastError() { return std::exchange(TheDevice().last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return TheDevice().last_error; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : Keep(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return Keep(cudaErrorInvalidDevice);
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
  return Keep(cudaErrorInvalidValue);
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *free_bytes = TheDevice().memory.free_bytes();
  *total_bytes = DeviceMemory::kTotalBytes;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return WaitForAll(); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  RunEnqueued();
  TheDevice().capturing.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return WaitForAll(); }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return cudaSuccess;  // all that was enqueued before runs before
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  RunEnqueued();
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->ran_before = -1;
  Enqueue(stream, [event] { event->ran_before = TheDevice().ran; });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t) { return WaitForAll(); }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return WaitForAll(); }
cudaError_t cudaEventElapsedTime(float* elapsed_ms, cudaEvent_t start, cudaEvent_t end) {
  if (start->ran_before < 0 || end->ran_before < 0) return Keep(cudaErrorNotReady);
  *elapsed_ms = static_cast<float>(end->ran_before - start->ran_before) * 1e-3f;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = nullptr;
  if (Capturing()) return Keep(cudaErrorStreamCaptureUnsupported);
  if (bytes == 0) return cudaSuccess;
  *memory = TheDevice().memory.Allocate(bytes);
  return *memory != nullptr ? cudaSuccess : Keep(cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  RunEnqueued();
  return TheDevice().memory.Free(static_cast<std::byte*>(memory)) ? cudaSuccess
                                                                  : Keep(cudaErrorInvalidValue);
}
cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  *memory = bytes <= DeviceMemory::kTotalBytes ? std::malloc(bytes) : nullptr;
  if (*memory == nullptr) return Keep(cudaErrorMemoryAllocation);
  std::memset(*memory, 0xff, bytes);
  TheDevice().pinned[static_cast<const std::byte*>(*memory)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  RunEnqueued();
  if (TheDevice().pinned.erase(static_cast<const std::byte*>(memory)) == 0) {
    return Keep(cudaErrorInvalidValue);
  }
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  const bool to_device = IsDeviceMemory(to, bytes);
  const bool from_device = IsDeviceMemory(from, bytes);
  const bool kind_fits =
      kind == cudaMemcpyDefault ||
      (to_device == (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) &&
       from_device == (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice));
  if (!kind_fits) return Keep(cudaErrorInvalidValue);
  // Memory that is not pinned is read before the call returns, and written too.
  const bool reads_now = !from_device && !IsPinned(from, bytes);
  const bool writes_now = !to_device && !IsPinned(to, bytes);
  if ((reads_now || writes_now) && Capturing()) return Keep(cudaErrorStreamCaptureUnsupported);
  if (reads_now) {
    const auto* begin = static_cast<const std::byte*>(from);
    Enqueue(stream, [to, copy = std::vector<std::byte>(begin, begin + bytes)] {
      std::memcpy(to, copy.data(), copy.size());
    });
  } else {
    Enqueue(stream, [to, from, bytes] { std::memmove(to, from, bytes); });
  }
  if (writes_now) RunEnqueued();
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  return error == cudaSuccess ? WaitForAll() : error;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  if (!IsDeviceMemory(to, bytes)) return Keep(cudaErrorInvalidValue);
  Enqueue(stream, [to, value, bytes] { std::memset(to, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr || stream->captured != nullptr) {
    return Keep(cudaErrorStreamCaptureUnsupported);
  }
  stream->captured = std::make_unique<CUgraph_st>();
  TheDevice().capturing.insert(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (stream->captured == nullptr) return Keep(cudaErrorInvalidValue);
  *graph = stream->captured.release();
  TheDevice().capturing.erase(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status =
      stream->captured != nullptr ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  for (const Work& node : executable->nodes) Enqueue(stream, node);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  RunEnqueued();
  delete executable;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  if (value < 0 || static_cast<size_t>(value) > kMaxSharedBytes) return Keep(cudaErrorInvalidValue);
  TheDevice().shared_limits[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}
