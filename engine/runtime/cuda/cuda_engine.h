// An engine whose model, KV cache and draws are on a CUDA device.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/runtime/engine.h"
#include "engine/runtime/leading_model.h"

namespace baton {

// An EngineLoader for options.cuda_device; see LoadCudaModel for the errors. Of several ranks each
// has a device, rank 0 that one and the others the next ones in order, and all have as many KV
// blocks: what fits on the device with the least room. NOT_FOUND: too few devices, or no NCCL. Room
// for the largest step that options.scheduler allows is set aside, then KV blocks:
// options.num_blocks, or as many as kv_memory_bytes hold, or, where that is 0, as
// device_memory_share leaves. UNIMPLEMENTED: this build has no CUDA.
absl::StatusOr<std::unique_ptr<Engine>> LoadCudaEngine(const EngineOptions& options,
                                                       const LoadProgressFn& progress);

// A RankServer, on the device of its rank.
absl::Status ServeCudaRank(const EngineOptions& options, const RankLink& link);

}  // namespace baton
