// Memory that FlashInfer's plans live in, and how a batch lies, as its kernels take it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "bench/gpu_roofline/flashinfer/kernels.h"
#include "engine/kernels/cuda/device_array.h"

namespace baton::roofline {

struct FlashInferWorkspace {
  FlashInferBatch batch;
  // Of each sequence the first, and one behind the last: rows, and places in the list of pages.
  std::vector<int32_t> row_offsets, page_offsets;
  std::vector<int32_t> lengths;  // positions
  DeviceArray<int32_t> device_row_offsets, device_page_offsets, last_page_lengths;
  DeviceArray<std::byte> partial_results;
  DeviceArray<std::byte> schedule;
  PinnedArray<std::byte> host_schedule;

  static absl::StatusOr<FlashInferWorkspace> Create(const CudaContext& context,
                                                    const FlashInferBatch& batch);
  // Where a plan put a part of the schedule.
  template <typename T>
  T* Scheduled(int64_t offset_bytes) const {
    return reinterpret_cast<T*>(const_cast<std::byte*>(schedule.data()) + offset_bytes);
  }
  template <typename T>
  T* Partial(int64_t offset_bytes) const {
    return reinterpret_cast<T*>(const_cast<std::byte*>(partial_results.data()) + offset_bytes);
  }
};

// What `call` throws, or the CUDA error that it returns.
template <typename Call>
absl::Status CallFlashInfer(const char* what, Call&& call) {
  try {
    const cudaError_t error = std::forward<Call>(call)();
    if (error == cudaSuccess) return absl::OkStatus();
    cudaGetLastError();  // it is told here
    return absl::InternalError(absl::StrCat(what, ": ", cudaGetErrorString(error)));
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat(what, ": ", error.what()));
  }
}

}  // namespace baton::roofline
