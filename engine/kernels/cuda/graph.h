// A row of launches that is captured once and started as one, which costs the host much less.
#pragma once

#include <cuda_runtime.h>

#include <mutex>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/cuda/context.h"

namespace baton {

// Held while a graph is captured, in any thread. What waits for a whole device takes it: that would
// end the capture, and not wait.
inline std::mutex& CaptureMutex() {
  static std::mutex mutex;
  return mutex;
}

// Move-only. Keeps the addresses and sizes that it was captured with.
class CudaGraph {
 public:
  CudaGraph() = default;
  // What `enqueue` enqueues on the context's stream; none of it runs. It may not wait, allocate on
  // the device, or start what was never started before (that would load it).
  static absl::StatusOr<CudaGraph> Capture(const CudaContext& context,
                                           absl::FunctionRef<absl::Status()> enqueue) {
    const std::lock_guard capturing(CaptureMutex());
    cudaGraph_t captured = nullptr;
    context.Note(cudaStreamBeginCapture(context.stream(), cudaStreamCaptureModeThreadLocal),
                 "begin capture");
    if (!context.status().ok()) return context.status();
    const absl::Status enqueued = enqueue();
    context.Note(cudaStreamEndCapture(context.stream(), &captured), "end capture");
    CudaGraph graph;
    if (enqueued.ok() && context.status().ok()) {
      context.Note(cudaGraphInstantiate(&graph.executable_, captured, 0), "instantiate graph");
    }
    if (captured != nullptr) cudaGraphDestroy(captured);
    if (!enqueued.ok()) return enqueued;
    if (!context.status().ok()) return context.status();
    return graph;
  }
  CudaGraph(CudaGraph&& other) noexcept : executable_(std::exchange(other.executable_, nullptr)) {}
  CudaGraph& operator=(CudaGraph&& other) noexcept {
    std::swap(executable_, other.executable_);
    return *this;
  }
  ~CudaGraph() {
    if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
  }

  bool captured() const { return executable_ != nullptr; }
  // Enqueues all of it. REQUIRES: captured().
  void Launch(const CudaContext& context) const {
    context.Note(cudaGraphLaunch(executable_, context.stream()), "launch graph");
  }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace baton
