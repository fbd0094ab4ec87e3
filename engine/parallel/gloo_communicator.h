// A Communicator in host memory, over TCP, by Gloo.
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

struct GlooOptions {
  int32_t rank = 0;
  int32_t size = 1;
  // An empty directory that all ranks of the group see, and no other group: they find one another
  // by files in it. Not needed any more once all are connected.
  std::string rendezvous;
  std::string host = "127.0.0.1";  // this rank's address, which the others connect to
  // Asked now and then while the others are awaited; an error ends that. May be null.
  std::function<absl::Status()> check_alive;
  absl::Duration connect_timeout = absl::Minutes(5);  // ranks load their models at other speeds
  absl::Duration timeout = absl::Seconds(30);         // of one operation
};

// It has a thread of its own. Returns once every rank is
// connected. UNAVAILABLE: not all came in time; INVALID_ARGUMENT: no such rank, or no directory.
absl::StatusOr<std::unique_ptr<Communicator>> ConnectGloo(const GlooOptions& options);

}  // namespace baton
