// The CUDA runtime API as far as we use it, with devices on the host: one, or as many as UseDevices
// or the environment's EMULATED_CUDA_DEVICES says. Those of a process have one range of addresses
// and do one piece of work at a time; those of other processes are others, whatever their numbers.
//
// What is enqueued on a stream stays there, as it may on a device, until something waits for it or
// asks about it; the streams take turns then, and what nobody has waited for or asked about does
// not run: see stream.h. Device memory is filled with 0xff when it is allocated and may be touched
// only by what is enqueued: a host that reads or writes it faults, unless something runs meanwhile.
//
// A kernel with cudaLaunchAttributeProgrammaticStreamSerialization runs behind the one before it,
// too; every thread has to wait for that (see block.h), and the race checker takes what it does
// before as done beside it.
//
// Thread-safe; graphs are captured in the mode cudaStreamCaptureModeThreadLocal. Names and
// meanings: CUDA Runtime API reference.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "tests/support/cuda_emulation/block.h"
#include "tests/support/cuda_emulation/vector_types.h"

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorMapBufferObjectFailed = 205,
  cudaErrorAlreadyMapped = 208,
  cudaErrorPeerAccessUnsupported = 217,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorNotReady = 600,
  cudaErrorPeerAccessAlreadyEnabled = 704,
  cudaErrorTooManyPeers = 711,
  cudaErrorLaunchFailure = 719,
  cudaErrorNotSupported = 801,
  cudaErrorStreamCaptureUnsupported = 900,
};
const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();

struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  size_t sharedMemPerBlock;
  size_t sharedMemPerBlockOptin;
  int major;
  int minor;
  int multiProcessorCount;
  int l2CacheSize;
  int warpSize;
  int maxThreadsPerBlock;
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes);
cudaError_t cudaDeviceSynchronize();

using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
using cudaGraph_t = struct CUgraph_st*;
using cudaGraphExec_t = struct CUgraphExec_st*;

inline constexpr unsigned cudaStreamNonBlocking = 1;
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
// Waits, which a device does not.
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
// Runs a piece of what it asks about, unless some thread runs anything.
cudaError_t cudaStreamQuery(cudaStream_t stream);

inline constexpr unsigned cudaEventDefault = 0;
inline constexpr unsigned cudaEventDisableTiming = 2;
cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
// Not in a graph.
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
// As cudaStreamQuery.
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
// One microsecond for everything that ran in between on the stream of both.
cudaError_t cudaEventElapsedTime(float* elapsed_ms, cudaEvent_t start, cudaEvent_t end);

enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4,
};
cudaError_t cudaMalloc(void** memory, size_t bytes);
template <typename T>
cudaError_t cudaMalloc(T** memory, size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(memory), bytes);
}
cudaError_t cudaFree(void* memory);
cudaError_t cudaMallocHost(void** memory, size_t bytes);
template <typename T>
cudaError_t cudaMallocHost(T** memory, size_t bytes) {
  return cudaMallocHost(reinterpret_cast<void**>(memory), bytes);
}
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream = nullptr);
// See UsePeers. A kernel whose arguments hold an address of another device's memory, without its
// device having been told that it reaches that, ends the process.
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer);
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags);
cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device,
                                size_t bytes, cudaStream_t stream = nullptr);
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream = nullptr);

struct cudaIpcMemHandle_t {
  char reserved[64];
};
inline constexpr unsigned cudaIpcMemLazyEnablePeerAccess = 1;
cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* memory);
// For another process only, and for kernels of the current device. The owner must live when it is
// opened, not as long as it is open.
cudaError_t cudaIpcOpenMemHandle(void** memory, cudaIpcMemHandle_t handle, unsigned flags);
cudaError_t cudaIpcCloseMemHandle(void* memory);

enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal = 0,
  cudaStreamCaptureModeThreadLocal = 1,
  cudaStreamCaptureModeRelaxed = 2,
};
enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone = 0,
  cudaStreamCaptureStatusActive = 1,
};
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);
enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization = 6 };
union cudaLaunchAttributeValue {
  int programmaticStreamSerializationAllowed;
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  cudaLaunchAttributeValue val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

namespace baton::cuda_emulation {

// Appends to what is enqueued, or to the graph that `stream` captures.
void Enqueue(cudaStream_t stream, std::function<void()> work);
cudaError_t EnqueueKernel(const cudaLaunchConfig_t& config, const void* kernel,
                          std::function<void()> thread);
// How many graphs this process has begun to capture.
int CountCaptures();
// Of this process, from now on.
void UseDevices(int count);
// Whether they can reach one another's memory: as it is, unless the environment has
// EMULATED_CUDA_WITHOUT_PEERS. None was told to, then. With EMULATED_CUDA_PEERS_LOSE_WRITES what
// one writes to another process's memory of another device never arrives, and no error says so.
void UsePeers(bool peers);
// What a thread does in place of a kernel's C++, with arguments of these bytes; null: nothing does.
using SubstituteForKernel = std::function<void()> (*)(
    const void* kernel, const std::vector<std::span<const std::byte>>& args);
inline SubstituteForKernel substitute = nullptr;
// Of an argument of a kernel: see cudaDeviceCanAccessPeer.
void CheckReach(cudaStream_t stream, const void* param, size_t bytes);
// As memory that is registered with a transport: the host may touch it.
void Expose(void* memory);
// From now on nothing runs, and who waits gets cudaErrorLaunchFailure, as after a kernel that wrote
// out of bounds. A process of its own is told by a file, its name the environment's
// EMULATED_CUDA_BREAKS with the process id behind it. Where there is one of
// EMULATED_CUDA_HANGS, nobody who waits returns any more; of EMULATED_CUDA_FAILS_COPIES, no copy
// can be started.
void BreakDevice();
// Once, the copy after `copies` more cannot be started, and nothing else is wrong.
void FailACopyAfter(int copies);
// The same of kernels.
void FailALaunchAfter(int launches);

}  // namespace baton::cuda_emulation

template <typename... Params, typename... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...),
                               Args&&... args) {
  static_assert((!std::is_reference_v<Params> && ...));
  std::tuple<std::remove_cv_t<Params>...> params(std::forward<Args>(args)...);
  const auto check = [config](const auto&... param) {
    (baton::cuda_emulation::CheckReach(config->stream, &param, sizeof(param)), ...);
  };
  std::apply(check, params);
  const auto* address = reinterpret_cast<const void*>(kernel);
  if (baton::cuda_emulation::substitute != nullptr) {
    const auto bytes_of = [](const auto&... param) {
      return std::vector<std::span<const std::byte>>{std::as_bytes(std::span(&param, 1))...};
    };
    return baton::cuda_emulation::EnqueueKernel(
        *config, address, baton::cuda_emulation::substitute(address, std::apply(bytes_of, params)));
  }
  return baton::cuda_emulation::EnqueueKernel(
      *config, address, [kernel, params = std::move(params)] { std::apply(kernel, params); });
}
