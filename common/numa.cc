#include "common/numa.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "common/check.h"
#include "common/cpu_list.h"

namespace baton {
namespace {

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) return absl::InvalidArgumentError(absl::StrCat("cannot read ", path));
  return text.str();
}

absl::StatusOr<std::vector<int32_t>> ReadList(const std::string& path, int32_t max) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  absl::StatusOr<std::vector<int32_t>> list = ParseCpuList(text, max);
  if (list.ok()) return list;
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", list.status().message()));
}

// Of "Node 0 MemTotal:  5990604 kB".
absl::StatusOr<int64_t> ReadMemoryBytes(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipWhitespace());
    if (words.size() != 5 || words[2] != "MemTotal:") continue;
    int64_t kib = 0;
    if (absl::SimpleAtoi(words[3], &kib) && kib >= 0 && words[4] == "kB") return kib * 1024;
  }
  return absl::InvalidArgumentError(absl::StrCat(path, ": no line of MemTotal in kB"));
}

}  // namespace

absl::StatusOr<std::vector<NumaNode>> ReadNumaNodes(const std::string& root) {
  std::vector<NumaNode> nodes;
  std::error_code error;
  if (!std::filesystem::exists(root, error)) return nodes;
  ASSIGN_OR_RETURN(std::vector<int32_t> ids, ReadList(root + "/online", kMaxNumaNode));
  std::ranges::sort(ids);
  for (const int32_t id : ids) {
    const std::string directory = absl::StrCat(root, "/node", id);
    NumaNode node{.id = id};
    ASSIGN_OR_RETURN(node.cpus, ReadList(directory + "/cpulist", kMaxCpu));
    ASSIGN_OR_RETURN(node.memory_bytes, ReadMemoryBytes(directory + "/meminfo"));
    std::ranges::sort(node.cpus);
    nodes.push_back(std::move(node));
  }
  return nodes;
}

std::string DescribeNodes(std::span<const NumaNode> nodes) {
  std::string text;
  for (const NumaNode& node : nodes) {
    const double gib = static_cast<double>(node.memory_bytes) / (int64_t{1} << 30);
    absl::StrAppend(&text, text.empty() ? "" : ", ", node.id, " (",
                    node.cpus.empty() ? "no CPUs" : "CPUs " + FormatCpuList(node.cpus), ", ",
                    node.memory_bytes == 0 ? "no memory" : absl::StrFormat("%.1f GiB", gib), ")");
  }
  return text.empty() ? "none" : text;
}

std::vector<int32_t> CpusOnNode(const NumaNode& node, std::span<const int32_t> allowed) {
  std::vector<int32_t> cpus;
  std::ranges::copy_if(node.cpus, std::back_inserter(cpus), [&](int32_t cpu) {
    return std::ranges::find(allowed, cpu) != allowed.end();
  });
  return cpus;
}

std::vector<NumaNode> UsableNodes(std::span<const NumaNode> nodes,
                                  std::span<const int32_t> allowed) {
  std::vector<NumaNode> usable;
  std::ranges::copy_if(nodes, std::back_inserter(usable), [&](const NumaNode& node) {
    return node.memory_bytes > 0 && !CpusOnNode(node, allowed).empty();
  });
  return usable;
}

absl::Status BindMemoryToNode(int32_t node) {
  BATON_CHECK(node >= 0 && node <= kMaxNumaNode) << node;
  constexpr size_t kBits = sizeof(unsigned long) * CHAR_BIT;  // the system call's own words
  std::array<unsigned long, (kMaxNumaNode + 1) / kBits> mask{};
  const auto bit = static_cast<size_t>(node);
  mask[bit / kBits] = 1UL << bit % kBits;
  // The kernel takes one bit less than it is told of.
  if (syscall(SYS_set_mempolicy, MPOL_BIND, mask.data(), kMaxNumaNode + 2) == 0) {
    return absl::OkStatus();
  }
  const int error = errno;
  const std::string what = absl::StrCat("the kernel refuses to take memory from NUMA node ", node,
                                        " alone: ", std::strerror(error));
  if (error == EPERM) {
    return absl::PermissionDeniedError(
        absl::StrCat(what, "; a container needs CAP_SYS_NICE for it (--cap-add SYS_NICE)"));
  }
  if (error == ENOSYS) return absl::UnimplementedError(what);
  return absl::InvalidArgumentError(absl::StrCat(what,
                                                 "; allowed are Mems_allowed_list of "
                                                 "/proc/self/status"));
}

}  // namespace baton
