#include "worker/placement.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/cpu_list.h"

namespace baton {
namespace {

absl::Status Wrong(const std::string& what) { return absl::InvalidArgumentError(what); }

// The node's allowed CPUs.
absl::StatusOr<std::vector<int32_t>> ResolveNode(int32_t id, int32_t threads,
                                                 const MachineCpus& machine) {
  const auto node = std::ranges::find(machine.nodes, id, &NumaNode::id);
  if (node == machine.nodes.end()) {
    return Wrong(absl::StrCat("numa_node: ", id, " is not a node of this machine; there are ",
                              DescribeNodes(machine.nodes)));
  }
  if (node->memory_bytes == 0) {
    return Wrong(absl::StrCat("numa_node: ", id, " has no memory; there are ",
                              DescribeNodes(machine.nodes)));
  }
  std::vector<int32_t> cpus = CpusOnNode(*node, machine.allowed);
  if (static_cast<int32_t>(cpus.size()) < threads) {
    return Wrong(absl::StrCat("threads: ", threads, " on NUMA node ", id,
                              ", where this process has ", cpus.size(), " CPUs (of ",
                              FormatCpuList(node->cpus), " it may run on ",
                              cpus.empty() ? "none" : FormatCpuList(cpus), ")"));
  }
  return cpus;
}

}  // namespace

absl::StatusOr<MachineCpus> ReadMachineCpus() {
  MachineCpus machine;
  ASSIGN_OR_RETURN(machine.nodes, ReadNumaNodes(kNumaRoot));
  ASSIGN_OR_RETURN(machine.allowed, AllowedCpus());
  return machine;
}

absl::StatusOr<Placement> ResolvePlacement(const PlacementSettings& settings,
                                           const MachineCpus& machine) {
  Placement placement{.threads = settings.threads, .numa_node = settings.numa_node};
  absl::StatusOr<std::vector<int32_t>> cpus = ParseCpuList(settings.cpus);
  if (!cpus.ok()) return Wrong(absl::StrCat("cpus: ", cpus.status().message()));
  placement.pin_cpus = *std::move(cpus);
  if (!placement.pin_cpus.empty()) {
    const auto count = static_cast<int32_t>(placement.pin_cpus.size());
    if (!settings.threads_set) placement.threads = count;
    if (count != placement.threads) {
      return Wrong(absl::StrCat("cpus: ", settings.cpus, " are ", count, " CPUs for ",
                                placement.threads, " threads; name one for each"));
    }
  }
  if (settings.numa_node >= 0) {
    ASSIGN_OR_RETURN(placement.node_cpus,
                     ResolveNode(settings.numa_node, placement.threads, machine));
  }
  const std::vector<int32_t>& allowed =
      settings.numa_node >= 0 ? placement.node_cpus : machine.allowed;
  for (const int32_t cpu : placement.pin_cpus) {
    if (std::ranges::find(allowed, cpu) != allowed.end()) continue;
    return Wrong(absl::StrCat(
        "cpus: this process may not run on CPU ", cpu,
        settings.numa_node >= 0 ? absl::StrCat(" of NUMA node ", settings.numa_node) : "",
        "; allowed: ", FormatCpuList(allowed)));
  }
  return placement;
}

absl::Status ApplyPlacement(const Placement& placement) {
  if (placement.numa_node < 0) return absl::OkStatus();
  RETURN_IF_ERROR(AllowOnlyCpus(placement.node_cpus));
  return BindMemoryToNode(placement.numa_node);
}

std::string DescribePlacement(const Placement& placement) {
  const bool on_node = placement.numa_node >= 0;
  std::string threads = "threads on any CPU";
  if (on_node) threads = absl::StrCat("threads on CPUs ", FormatCpuList(placement.node_cpus));
  if (!placement.pin_cpus.empty()) {
    absl::StrAppend(&threads, ", compute threads pinned to ", FormatCpuList(placement.pin_cpus));
  }
  return absl::StrCat(threads, "; memory from ",
                      on_node ? absl::StrCat("NUMA node ", placement.numa_node) : "any node");
}

std::vector<int32_t> SpreadOverNodes(const MachineCpus& machine, int32_t num_workers) {
  const std::vector<NumaNode> nodes = UsableNodes(machine.nodes, machine.allowed);
  std::vector<int32_t> of_worker;
  if (nodes.size() < 2) return of_worker;
  for (int32_t worker = 0; worker < num_workers; ++worker) {
    of_worker.push_back(nodes[static_cast<size_t>(worker) % nodes.size()].id);
  }
  return of_worker;
}

}  // namespace baton
