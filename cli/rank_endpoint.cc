#include "cli/rank_endpoint.h"

#include <utility>
#include <vector>

#include "common/check.h"
#include "common/cpu_list.h"
#include "engine/parallel/gloo_communicator.h"
#include "engine/parallel/shared_memory_communicator.h"

namespace baton {

absl::StatusOr<absl::Duration> RankSpinTime(int32_t ranks, int32_t threads) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> cpus, AllowedCpus());
  return SpinTime(ranks, threads, static_cast<int32_t>(cpus.size()));
}

absl::StatusOr<std::unique_ptr<Communicator>> ConnectRank(const RankEndpoint& endpoint) {
  if (endpoint.group_fd < 0) {
    return ConnectGloo({.rank = endpoint.rank,
                        .size = endpoint.size,
                        .rendezvous = endpoint.rendezvous,
                        .check_alive = endpoint.check_alive});
  }
  ASSIGN_OR_RETURN(std::unique_ptr<GroupMemory> memory,
                   GroupMemory::Map(endpoint.group_fd, endpoint.size));
  return ConnectSharedMemory(
      std::move(memory),
      {.rank = endpoint.rank, .spin = endpoint.spin, .check_alive = endpoint.check_alive});
}

}  // namespace baton
