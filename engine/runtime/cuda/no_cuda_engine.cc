// Where there was no CUDA compiler.
#include "engine/runtime/cuda/cuda_engine.h"
#include "engine/runtime/cuda/cuda_probe.h"

namespace baton {

namespace {
absl::Status WithoutCuda() {
  return absl::UnimplementedError(
      "this baton was built without CUDA; build it where nvcc and cuBLAS are found");
}
}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> LoadCudaEngine(const EngineOptions&,
                                                       const LoadProgressFn&) {
  return WithoutCuda();
}

absl::Status ServeCudaRank(const EngineOptions&, const RankLink&) { return WithoutCuda(); }

absl::StatusOr<std::vector<CudaProbe>> ProbeCudaDevices() { return WithoutCuda(); }

}  // namespace baton
