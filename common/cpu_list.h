// Lists of CPUs as the kernel writes them, "0-3,8", and the CPUs that this process may run on.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace baton {

inline constexpr int32_t kMaxCpu = 1023;  // what a cpu_set_t holds

// The numbers in the order in which they stand; "" is none. INVALID_ARGUMENT: not such a list, a
// number above `max` or one that is named twice.
absl::StatusOr<std::vector<int32_t>> ParseCpuList(std::string_view text, int32_t max = kMaxCpu);
// The shortest list that gives the same numbers; their order is kept.
std::string FormatCpuList(std::span<const int32_t> cpus);

// The affinity of the calling thread, ascending. INTERNAL with what the system said.
absl::StatusOr<std::vector<int32_t>> AllowedCpus();
// Keeps the calling thread, and those that it will make, on `cpus`. INVALID_ARGUMENT with what the
// system said.
absl::Status AllowOnlyCpus(std::span<const int32_t> cpus);

}  // namespace baton
