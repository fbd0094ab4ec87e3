// Streams, events and graphs of the runtime API.
#include <unistd.h>

#include <memory>
#include <mutex>
#include <thread>

#include "tests/support/cuda_emulation/device.h"
#include "tests/support/cuda_emulation/runtime_api.h"

using namespace baton::cuda_emulation;  // the API's functions are global

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st{.device = CurrentDevice()};
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(DeviceMutex());
  RunEnqueued();
  TheDevice().capturing.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  while (Hangs()) pause();
  const std::lock_guard lock(DeviceMutex());
  return WaitForAll();
}
cudaError_t cudaStreamQuery(cudaStream_t) {
  if (Hangs()) return cudaErrorNotReady;
  const std::lock_guard lock(DeviceMutex());
  return WaitForAll();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return cudaSuccess;  // all that was enqueued before runs before
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  const std::lock_guard lock(DeviceMutex());
  if (TheDevice().broken) return cudaErrorLaunchFailure;
  *event = new CUevent_st{.device = CurrentDevice()};
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const std::lock_guard lock(DeviceMutex());
  RunEnqueued();
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::lock_guard lock(DeviceMutex());
  if (TheDevice().broken) return cudaErrorLaunchFailure;
  const int device = stream != nullptr ? stream->device : CurrentDevice();
  if (event->device != device) return Keep(cudaErrorInvalidResourceHandle);
  event->ran_before = -1;
  Enqueue(stream, [event, &device = TheDevice()] {
    event->ran_before = device.ran;
    if (device.behind_kernel == device.ran) ++device.behind_kernel;  // nothing waits for an event
  });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t) {
  if (Hangs()) return cudaErrorNotReady;
  const std::lock_guard lock(DeviceMutex());
  return WaitForAll();
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
  while (Hangs()) pause();
  const std::lock_guard lock(DeviceMutex());
  return WaitForAll();
}
cudaError_t cudaEventElapsedTime(float* elapsed_ms, cudaEvent_t start, cudaEvent_t end) {
  const std::lock_guard lock(DeviceMutex());
  if (start->ran_before < 0 || end->ran_before < 0) return Keep(cudaErrorNotReady);
  *elapsed_ms = static_cast<float>(end->ran_before - start->ran_before) * 1e-3f;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const std::lock_guard lock(DeviceMutex());
  if (stream == nullptr || stream->captured != nullptr) {
    return Keep(cudaErrorStreamCaptureUnsupported);
  }
  stream->captured = std::make_unique<CUgraph_st>();
  TheDevice().capturing[stream] = std::this_thread::get_id();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const std::lock_guard lock(DeviceMutex());
  *graph = nullptr;
  if (stream->captured == nullptr) return Keep(cudaErrorInvalidValue);
  *graph = stream->captured.release();
  TheDevice().capturing.erase(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const std::lock_guard lock(DeviceMutex());
  *status =
      stream->captured != nullptr ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  const std::lock_guard lock(DeviceMutex());
  *executable = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const std::lock_guard lock(DeviceMutex());
  for (const Work& node : executable->nodes) Enqueue(stream, node);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const std::lock_guard lock(DeviceMutex());
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const std::lock_guard lock(DeviceMutex());
  RunEnqueued();
  delete executable;
  return cudaSuccess;
}
