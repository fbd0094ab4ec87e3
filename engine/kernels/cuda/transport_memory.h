// Device memory that transports read and write. Tests on the host have their own header of this
// name, where it is host memory to transports.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "common/memory_kind.h"
#include "engine/kernels/cuda/device_array.h"

namespace baton {

// As cuda_ipc and GPUDirect RDMA need it: of cudaMalloc, not of a pool.
struct TransportMemoryKind {
  static constexpr const char* kName = "device";
  static constexpr MemoryKind kKind = MemoryKind::kCuda;
  static cudaError_t Allocate(void** memory, size_t bytes) { return cudaMalloc(memory, bytes); }
  static void Free(void* memory) { cudaFree(memory); }
};

template <typename T>
using TransportArray = CudaArray<T, TransportMemoryKind>;

}  // namespace baton
