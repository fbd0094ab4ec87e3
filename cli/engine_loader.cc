#include "cli/engine_loader.h"

#include "engine/runtime/cuda/cuda_engine.h"

namespace baton {

EngineLoader EngineLoaderOf(const ComputeDevice& device) {
  return device.cuda ? EngineLoader(LoadCudaEngine) : EngineLoader(Engine::Load);
}

RankServer RankServerOf(const ComputeDevice& device) {
  return device.cuda ? RankServer(ServeCudaRank) : RankServer(ServeRank);
}

}  // namespace baton
