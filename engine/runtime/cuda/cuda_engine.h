// An engine whose model, KV cache and draws are on a CUDA device.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/runtime/engine.h"

namespace baton {

// An EngineLoader for options.cuda_device; see LoadCudaModel for the errors. Room for the largest
// step that options.scheduler allows is set aside, then KV blocks: options.num_blocks, or as many
// as kv_memory_bytes hold, or, where that is 0, as device_memory_share leaves.
// UNIMPLEMENTED: this build has no CUDA.
absl::StatusOr<std::unique_ptr<Engine>> LoadCudaEngine(const EngineOptions& options,
                                                       const LoadProgressFn& progress);

}  // namespace baton
