// What the processes of a tensor-parallel group do together in a step: collective operations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace baton {

// Every rank of the group calls the same operations in the same order with the same sizes; each
// blocks until this rank's part is done. Not thread-safe. Errors are UNAVAILABLE: a rank is gone,
// or was not there in time. After one the group is of no further use.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int32_t rank() const = 0;  // from 0
  virtual int32_t size() const = 0;

  // all[r * mine.size() …] = mine of rank r, on every rank. REQUIRES: all.size() = size * mine's.
  virtual absl::Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all) = 0;
  // The same on rank 0 only; on others `all` is not touched and may be empty.
  virtual absl::Status Gather(std::span<const std::byte> mine, std::span<std::byte> all) = 0;
  // numbers = the sum of every rank's, the same bits on every rank; in which order they are added
  // depends on the size of the group.
  virtual absl::Status AllReduceSum(std::span<float> numbers) = 0;
};

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

// In host memory, over TCP, by Gloo. It has a thread of its own. Returns once every rank is
// connected. UNAVAILABLE: not all came in time; INVALID_ARGUMENT: no such rank, or no directory.
absl::StatusOr<std::unique_ptr<Communicator>> ConnectGloo(const GlooOptions& options);

}  // namespace baton
