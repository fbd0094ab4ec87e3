// How one process of a tensor-parallel worker reaches the others in a step.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/parallel/communicator.h"

namespace baton {

struct RankEndpoint {
  int32_t rank = 0;
  int32_t size = 1;
  int group_fd = -1;       // see GroupMemory; -1: Gloo instead
  std::string rendezvous;  // for Gloo, see GlooOptions
  absl::Duration spin;     // see SharedMemoryOptions
  std::function<absl::Status()> check_alive;
};

// SpinTime for processes with `threads` compute threads each on the CPUs that the calling thread
// may run on; before that is pinned.
absl::StatusOr<absl::Duration> RankSpinTime(int32_t ranks, int32_t threads);

// Joins the group: returns once all ranks have. The descriptor stays the caller's, who may close
// it.
absl::StatusOr<std::unique_ptr<Communicator>> ConnectRank(const RankEndpoint& endpoint);

}  // namespace baton
