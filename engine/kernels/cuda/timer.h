// The device's own time between two points of a stream.
#pragma once

#include <array>
#include <utility>

#include <cuda_runtime.h>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/kernels/cuda/context.h"

namespace baton {

// Move-only. Start, Stop, then ElapsedMs; then again.
class CudaTimer {
 public:
  CudaTimer() = default;
  static absl::StatusOr<CudaTimer> Create() {
    CudaTimer timer;
    for (cudaEvent_t& event : timer.events_) {
      const cudaError_t error = cudaEventCreate(&event);
      if (error != cudaSuccess) {
        return absl::InternalError(absl::StrCat("timer: ", cudaGetErrorName(error)));
      }
    }
    return timer;
  }
  CudaTimer(CudaTimer&& other) noexcept : events_(std::exchange(other.events_, {})) {}
  CudaTimer& operator=(CudaTimer&& other) noexcept {
    std::swap(events_, other.events_);
    return *this;
  }
  ~CudaTimer() {
    for (cudaEvent_t event : events_) {
      if (event != nullptr) cudaEventDestroy(event);
    }
  }

  // Each behind everything that is enqueued so far.
  void Start(const CudaContext& context) const { Record(context, events_[0]); }
  void Stop(const CudaContext& context) const { Record(context, events_[1]); }
  // Waits for the device to reach Stop. 0 after an error, which the context keeps.
  double ElapsedMs(const CudaContext& context) const {
    float elapsed_ms = 0.0f;
    context.Note(cudaEventSynchronize(events_[1]), "timer");
    if (!context.status().ok()) return 0.0;
    context.Note(cudaEventElapsedTime(&elapsed_ms, events_[0], events_[1]), "timer");
    return elapsed_ms;
  }

 private:
  static void Record(const CudaContext& context, cudaEvent_t event) {
    context.Note(cudaEventRecord(event, context.stream()), "timer");
  }
  std::array<cudaEvent_t, 2> events_ = {};
};

}  // namespace baton
