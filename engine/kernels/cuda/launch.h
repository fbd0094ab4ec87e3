// Starts kernels.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

#include "engine/kernels/cuda/context.h"

namespace baton {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // dynamic
};

// Above this a kernel must be told that it may have more.
inline constexpr size_t kDefaultSharedBytes = 48 << 10;

// On any stream. A grid without blocks starts nothing.
template <typename... Params, typename... Args>
cudaError_t LaunchOn(cudaStream_t stream, const LaunchShape& shape, void (*kernel)(Params...),
                     Args&&... args) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return cudaSuccess;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
}

// On the context's. `op` names the launch in errors.
template <typename... Params, typename... Args>
void Launch(const CudaContext& context, const char* op, const LaunchShape& shape,
            void (*kernel)(Params...), Args&&... args) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  if (shape.shared_bytes > kDefaultSharedBytes) {
    context.Note(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                      cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(shape.shared_bytes)),
                 op);
  }
  context.Note(LaunchOn(context.stream(), shape, kernel, std::forward<Args>(args)...), op);
}

}  // namespace baton
