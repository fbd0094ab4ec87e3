// Starts kernels.
//
// Launch may let a kernel in before those in front of it on the stream have ended (programmatic
// dependent launch, see CudaContext::SetDependentLaunches). So each kernel that it starts calls
// WaitForPreviousGrid, in every thread, before it reads or writes what a step writes. Then whoever
// is past that call has all earlier work behind it: the grid before it has ended, with all of its
// blocks, each of which had waited for the grid before that; and so on, back to an operation that
// is no dependent launch (a copy, a library's product, a kernel by LaunchOn), which starts when all
// before it has ended. One kernel that does not wait would break the chain for all that follow it.
// Events, copies and other streams that wait for an event see grids that have ended, as ever.
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

inline bool HasBlocks(const LaunchShape& shape) {
  return shape.grid.x > 0 && shape.grid.y > 0 && shape.grid.z > 0;
}

inline cudaLaunchConfig_t ConfigOf(cudaStream_t stream, const LaunchShape& shape) {
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  return config;
}

// On any stream, behind all that is there. A grid without blocks starts nothing.
template <typename... Params, typename... Args>
cudaError_t LaunchOn(cudaStream_t stream, const LaunchShape& shape, void (*kernel)(Params...),
                     Args&&... args) {
  if (!HasBlocks(shape)) return cudaSuccess;
  const cudaLaunchConfig_t config = ConfigOf(stream, shape);
  return cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
}

// On the context's; the kernel waits, see above. `op` names the launch in errors.
template <typename... Params, typename... Args>
void Launch(const CudaContext& context, const char* op, const LaunchShape& shape,
            void (*kernel)(Params...), Args&&... args) {
  if (!HasBlocks(shape)) return;
  if (shape.shared_bytes > kDefaultSharedBytes) {
    context.Note(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                      cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(shape.shared_bytes)),
                 op);
  }
  cudaLaunchConfig_t config = ConfigOf(context.stream(), shape);
  cudaLaunchAttribute dependent{};
  dependent.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  dependent.val.programmaticStreamSerializationAllowed = 1;
  if (context.dependent_launches()) {
    config.attrs = &dependent;
    config.numAttrs = 1;
  }
  context.Note(cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...), op);
}

}  // namespace baton
