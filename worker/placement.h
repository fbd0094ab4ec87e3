// Which CPUs a worker's threads run on, and which NUMA node its memory comes from.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/numa.h"

namespace baton {

// What an operator says.
struct PlacementSettings {
  std::string cpus;         // "0-3,8": a CPU for each compute thread; empty: none is pinned
  int32_t numa_node = -1;   // -1: any
  int32_t threads = 1;      // compute threads
  bool threads_set = true;  // by the operator; else there are as many as `cpus` names, if any
};

// What the machine has.
struct MachineCpus {
  std::vector<NumaNode> nodes;
  std::vector<int32_t> allowed;  // CPUs that this process may run on, ascending
};
absl::StatusOr<MachineCpus> ReadMachineCpus();

// What the settings come to.
struct Placement {
  int32_t threads = 1;
  std::vector<int32_t> pin_cpus;   // [threads], or empty: the compute threads are not pinned
  int32_t numa_node = -1;          // -1: any
  std::vector<int32_t> node_cpus;  // of that node, that the process may run on
};

// INVALID_ARGUMENT names the setting, its value and what is allowed: CPUs that the process may not
// run on or that are not of the node, another number of them than threads, a node that is not
// there, without memory or without a CPU for each thread.
absl::StatusOr<Placement> ResolvePlacement(const PlacementSettings& settings,
                                           const MachineCpus& machine);

// Puts the calling thread, and those that it will make, on the node's CPUs and their memory on the
// node; nothing without a node. Compute threads are pinned by their pool. REQUIRES: the process has
// no other thread yet that is meant to be placed.
absl::Status ApplyPlacement(const Placement& placement);

// "threads on CPUs 0-3; memory from NUMA node 0"
std::string DescribePlacement(const Placement& placement);

// The node of each of `num_workers` workers on one machine, in turns over the nodes that have
// memory and an allowed CPU. Empty where there are less than two such nodes: nothing is to be
// placed.
std::vector<int32_t> SpreadOverNodes(const MachineCpus& machine, int32_t num_workers);

}  // namespace baton
