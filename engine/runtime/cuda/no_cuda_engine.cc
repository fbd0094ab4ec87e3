// Where there was no CUDA compiler.
#include "engine/runtime/cuda/cuda_engine.h"

namespace baton {

absl::StatusOr<std::unique_ptr<Engine>> LoadCudaEngine(const EngineOptions&,
                                                       const LoadProgressFn&) {
  return absl::UnimplementedError(
      "this baton was built without CUDA; build it where nvcc and cuBLAS are found");
}

}  // namespace baton
