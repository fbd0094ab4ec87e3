// What computes on a device.
#pragma once

#include "cli/compute_device.h"
#include "engine/runtime/engine.h"
#include "engine/runtime/rank_server.h"

namespace baton {

// What makes engines there. A build without CUDA has one that says so.
EngineLoader EngineLoaderOf(const ComputeDevice& device);
// What a worker's other processes run.
RankServer RankServerOf(const ComputeDevice& device);

}  // namespace baton
