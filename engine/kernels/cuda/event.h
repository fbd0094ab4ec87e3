// A point in a stream's work that the host can wait for.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/kernels/cuda/context.h"

namespace baton {

// Move-only.
class CudaEvent {
 public:
  CudaEvent() = default;
  static absl::StatusOr<CudaEvent> Create() {
    CudaEvent event;
    const cudaError_t error = event.Make();
    if (error != cudaSuccess) {
      return absl::InternalError(absl::StrCat("event: ", cudaGetErrorName(error)));
    }
    return event;
  }
  // The same, for who keeps CUDA's own errors. REQUIRES: it is empty.
  cudaError_t Make() { return cudaEventCreateWithFlags(&event_, cudaEventDisableTiming); }
  CudaEvent(CudaEvent&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  CudaEvent& operator=(CudaEvent&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  ~CudaEvent() {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }

  // Behind everything that is enqueued so far.
  void Record(const CudaContext& context) const {
    context.Note(Record(context.stream()), "record event");
  }
  cudaError_t Record(cudaStream_t stream) const { return cudaEventRecord(event_, stream); }
  // cudaErrorNotReady: the device is not there yet. Otherwise what came of all that was before.
  cudaError_t Query() const { return cudaEventQuery(event_); }
  // Returns when the device is there; at once if it was never recorded.
  void Wait(const CudaContext& context) const {
    context.Note(cudaEventSynchronize(event_), "wait for event");
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace baton
