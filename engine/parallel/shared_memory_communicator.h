// A Communicator of ranks on one machine, in memory that they share. No thread of its own, and no
// system call while the others are in time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/parallel/communicator.h"
#include "engine/parallel/group_memory.h"

namespace baton {

struct SharedMemoryOptions {
  int32_t rank = 0;
  // How long a rank that waits for others keeps its core before it sleeps; see SpinTime.
  absl::Duration spin = absl::ZeroDuration();
  // Asked now and then while others are awaited; an error ends that, here and for all ranks that
  // wait. May be null.
  std::function<absl::Status()> check_alive;
  absl::Duration connect_timeout = absl::Minutes(5);  // ranks load their models at other speeds
  absl::Duration timeout = absl::Seconds(30);         // of one wait for the others
};

// How long to spin where `ranks` processes of `threads` each have `cpus` to run on: about what
// going to sleep and being woken costs; not at all where a spinning rank would keep another from
// running.
absl::Duration SpinTime(int32_t ranks, int32_t threads, int32_t cpus);

// Returns once every rank is there. `memory`: of the group; ranks that are threads of one process
// may share one mapping. UNAVAILABLE: not all came in time; INVALID_ARGUMENT: no such rank, or it
// is there already. Destruction ends what the others wait for it to do.
absl::StatusOr<std::unique_ptr<Communicator>> ConnectSharedMemory(
    std::shared_ptr<GroupMemory> memory, const SharedMemoryOptions& options);

}  // namespace baton
