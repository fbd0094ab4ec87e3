// Streams, events and graphs of the runtime API.
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "tests/support/cuda_emulation/device.h"
#include "tests/support/cuda_emulation/runtime_api.h"

using namespace baton::cuda_emulation;  // the API's functions are global

namespace {
int captures = 0;
}  // namespace

int baton::cuda_emulation::CountCaptures() {
  const Lock lock(DeviceMutex());
  return captures;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const Lock lock(DeviceMutex());
  if (flags != cudaStreamNonBlocking) return Keep(cudaErrorInvalidValue);
  *stream = AddStream().get();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Lock lock(DeviceMutex());
  const Point end = EndOf(*stream);
  RunUntil(lock, {&end, 1});
  std::erase(TheDevice().streams, end.stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  while (Hangs()) pause();
  Lock lock(DeviceMutex());
  return WaitForEnd(lock, stream);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (Hangs()) return cudaErrorNotReady;
  Lock lock(DeviceMutex());
  return Query(lock, EndOf(StreamOf(stream)));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  const Lock lock(DeviceMutex());
  if (TheDevice().broken) return cudaErrorLaunchFailure;
  *event = new CUevent_st{.device = CurrentDevice()};
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Lock lock(DeviceMutex());
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  const Lock lock(DeviceMutex());
  if (TheDevice().broken) return cudaErrorLaunchFailure;
  CUstream_st& stream = StreamOf(handle);
  if (event->device != stream.device) return Keep(cudaErrorInvalidResourceHandle);
  if (stream.captured != nullptr) return Keep(cudaErrorNotSupported);
  event->recorded = EndOf(stream);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (Hangs()) return cudaErrorNotReady;
  Lock lock(DeviceMutex());
  return Query(lock, event->recorded);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  while (Hangs()) pause();
  Lock lock(DeviceMutex());
  const Point recorded = event->recorded;
  return Wait(lock, {&recorded, 1});
}
cudaError_t cudaEventElapsedTime(float* elapsed_ms, cudaEvent_t start, cudaEvent_t end) {
  const Lock lock(DeviceMutex());
  const Point& from = start->recorded;
  const Point& to = end->recorded;
  if (from.stream == nullptr || from.stream != to.stream) return Keep(cudaErrorInvalidValue);
  if (to.stream->ran < std::max(from.pieces, to.pieces)) return Keep(cudaErrorNotReady);
  *elapsed_ms = static_cast<float>(to.pieces - from.pieces) * 1e-3f;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const Lock lock(DeviceMutex());
  if (stream == nullptr || stream->captured != nullptr) {
    return Keep(cudaErrorStreamCaptureUnsupported);
  }
  ++captures;
  stream->captured = std::make_unique<CUgraph_st>();
  stream->captures = std::this_thread::get_id();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Lock lock(DeviceMutex());
  *graph = nullptr;
  if (stream->captured == nullptr) return Keep(cudaErrorInvalidValue);
  *graph = stream->captured.release();
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Lock lock(DeviceMutex());
  *status =
      stream->captured != nullptr ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  const Lock lock(DeviceMutex());
  *executable = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const Lock lock(DeviceMutex());
  for (const Piece& node : executable->nodes) Add(stream, node);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const Lock lock(DeviceMutex());
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const Lock lock(DeviceMutex());
  delete executable;
  return cudaSuccess;
}
