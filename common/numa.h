// The NUMA nodes of this machine, and where the memory of this process comes from.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace baton {

inline constexpr char kNumaRoot[] = "/sys/devices/system/node";
inline constexpr int32_t kMaxNumaNode = 1023;

struct NumaNode {
  int32_t id = 0;
  std::vector<int32_t> cpus;  // those that are online, ascending; may be none
  int64_t memory_bytes = 0;   // 0: a node of CPUs only
};

// The nodes that are online, ascending, as the kernel's files under `root` describe them
// (Documentation/ABI/stable/sysfs-devices-node). Empty: there is no such directory, as with a
// kernel without NUMA. INVALID_ARGUMENT names the file that says something else.
absl::StatusOr<std::vector<NumaNode>> ReadNumaNodes(const std::string& root);

// "0 (CPUs 0-3, 15.6 GiB), 1 (CPUs 4-7, 15.6 GiB)"; "none" of an empty list.
std::string DescribeNodes(std::span<const NumaNode> nodes);

// CPUs of the node that are among `allowed`.
std::vector<int32_t> CpusOnNode(const NumaNode& node, std::span<const int32_t> allowed);

// The nodes that a worker can live on: with memory and at least one of the `allowed` CPUs.
std::vector<NumaNode> UsableNodes(std::span<const NumaNode> nodes,
                                  std::span<const int32_t> allowed);

// All memory that the calling thread touches first from now on, and that threads touch which it
// will make, comes from `node` and from no other, by set_mempolicy(MPOL_BIND): where the node has
// no more, the system kills the process. Errors say what the kernel said: PERMISSION_DENIED,
// UNIMPLEMENTED (a kernel without NUMA), INVALID_ARGUMENT (a node that the process may not use).
absl::Status BindMemoryToNode(int32_t node);

}  // namespace baton
