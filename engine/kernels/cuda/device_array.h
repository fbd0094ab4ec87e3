// Arrays in device memory, and arrays in host memory that a device reads and writes at full speed.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/kernels/cuda/context.h"

namespace baton {

struct DeviceMemoryKind {
  static constexpr const char* kName = "device";
  static cudaError_t Allocate(void** memory, size_t bytes) { return cudaMalloc(memory, bytes); }
  static void Free(void* memory) { cudaFree(memory); }
};
struct PinnedMemoryKind {
  static constexpr const char* kName = "pinned host";
  static cudaError_t Allocate(void** memory, size_t bytes) { return cudaMallocHost(memory, bytes); }
  static void Free(void* memory) { cudaFreeHost(memory); }
};

// Owns `size()` elements, not initialised, aligned to 256 bytes. Move-only. Dropping it waits for
// the device, so it may be dropped while work that uses it is enqueued.
template <typename T, typename Kind>
class CudaArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  CudaArray() = default;
  // RESOURCE_EXHAUSTED names the bytes asked for and what the device has.
  static absl::StatusOr<CudaArray> Create(size_t size) {
    CudaArray array;
    size_t bytes = 0;
    const bool too_large = __builtin_mul_overflow(size, sizeof(T), &bytes);
    void* memory = nullptr;
    const cudaError_t error = too_large   ? cudaErrorMemoryAllocation
                              : bytes > 0 ? Kind::Allocate(&memory, bytes)
                                          : cudaSuccess;
    if (error != cudaSuccess) return Exhausted(size, error);
    array.data_ = static_cast<T*>(memory);
    array.size_ = size;
    return array;
  }
  CudaArray(CudaArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  CudaArray& operator=(CudaArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~CudaArray() {
    if (data_ != nullptr) Kind::Free(data_);
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }

 private:
  static absl::Status Exhausted(size_t size, cudaError_t error) {
    cudaGetLastError();  // it is told here
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    cudaMemGetInfo(&free_bytes, &total_bytes);
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot allocate ", size, " x ", sizeof(T), " bytes of ", Kind::kName,
                     " memory: ", cudaGetErrorName(error), "; of the device's ", total_bytes >> 20,
                     " MiB ", free_bytes >> 20, " MiB are free"));
  }

  T* data_ = nullptr;
  size_t size_ = 0;
};

template <typename T>
using DeviceArray = CudaArray<T, DeviceMemoryKind>;
// The host touches it only when no work that uses it is enqueued.
template <typename T>
using PinnedArray = CudaArray<T, PinnedMemoryKind>;

// Enqueues the copy of `from` to the front of `to`. From pinned memory it returns at once, and
// `from` must stay as it is until the copy is done; other memory is read before it returns.
// REQUIRES: from.size() <= to->size().
template <typename T>
void Upload(const CudaContext& context, std::span<const std::type_identity_t<T>> from,
            DeviceArray<T>* to) {
  BATON_CHECK(from.size() <= to->size()) << from.size() << "of" << to->size();
  if (from.empty()) return;
  context.Note(cudaMemcpyAsync(to->data(), from.data(), from.size_bytes(), cudaMemcpyHostToDevice,
                               context.stream()),
               "upload");
}

// Enqueues the copy of the front of `from` to `to`, which holds it after the next Synchronize.
// REQUIRES: to.size() <= from.size().
template <typename T>
void Download(const CudaContext& context, const DeviceArray<T>& from,
              std::span<std::type_identity_t<T>> to) {
  BATON_CHECK(to.size() <= from.size()) << to.size() << "of" << from.size();
  if (to.empty()) return;
  context.Note(cudaMemcpyAsync(to.data(), from.data(), to.size_bytes(), cudaMemcpyDeviceToHost,
                               context.stream()),
               "download");
}

}  // namespace baton
