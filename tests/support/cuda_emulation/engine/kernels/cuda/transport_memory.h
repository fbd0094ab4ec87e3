// Stands before the real engine/kernels/cuda/transport_memory.h on the include path of what is
// emulated: to a transport the emulated device's memory is memory of the host.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "common/memory_kind.h"
#include "engine/kernels/cuda/device_array.h"

namespace baton {

struct TransportMemoryKind {
  static constexpr const char* kName = "device";
  static constexpr MemoryKind kKind = MemoryKind::kHost;
  static cudaError_t Allocate(void** memory, size_t bytes) {
    const cudaError_t error = cudaMalloc(memory, bytes);
    if (error == cudaSuccess && *memory != nullptr) cuda_emulation::Expose(*memory);
    return error;
  }
  static void Free(void* memory) { cudaFree(memory); }
};

template <typename T>
using TransportArray = CudaArray<T, TransportMemoryKind>;

}  // namespace baton
