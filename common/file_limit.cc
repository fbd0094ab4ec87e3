#include "common/file_limit.h"

#include <sys/resource.h>

#include <algorithm>

namespace baton {

void RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

uint64_t FileLimit() {
  rlimit limit{};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : RLIM_INFINITY;
}

bool IsFromReserve(int fd) {
  constexpr uint64_t kReserve = 64;
  const uint64_t limit = FileLimit();
  // The kernel gives the lowest free number, so all below it are taken.
  return static_cast<uint64_t>(fd) >= limit - std::min(kReserve, limit / 4);
}

uint64_t ConnectionsWithin(uint64_t files, uint64_t wanted, uint64_t own) {
  constexpr uint64_t kSpare = 512;  // logs, gRPC's clients, connections that are being refused
  const uint64_t kept = std::min(own + kSpare, files / 2);
  return std::min(wanted, files - kept);
}

}  // namespace baton
