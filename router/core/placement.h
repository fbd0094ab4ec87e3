// Where a request runs: a pure function of the cluster view.
//
// A pair of prefill and decode worker is preferred; workers of role both are used only while no
// such pair is up. Prefill: a free credit is a must, then the least work ahead of it, where a
// cached prefix counts as work saved. Decode: not known to be out of room, then the least share of
// its blocks and batch in use. Truth about room lies with the decode worker: it may still refuse.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "router/core/cluster_view.h"
#include "router/core/prefix_affinity.h"

namespace baton::router {

struct PlacementQuery {
  int32_t prompt_tokens = 0;
  int32_t num_samples = 1;
  AffinityHit affinity;
  std::span<const WorkerIndex> never;  // said that the request can never fit
  std::span<const WorkerIndex> avoid;  // lost an earlier attempt: only if nothing else is there
};

struct Placement {
  WorkerIndex prefill = kNoWorker;
  WorkerIndex decode = kNoWorker;  // equal to prefill: generate in place
  bool in_place() const { return prefill == decode; }
};

// Empty: nothing can start now.
std::optional<Placement> ChoosePlacement(const ClusterView& cluster, const PlacementQuery& query);

// Whether any accepting worker is left that has not said "never".
bool CouldEverFit(const ClusterView& cluster, std::span<const WorkerIndex> never);

}  // namespace baton::router
