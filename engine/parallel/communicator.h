// What the processes of a tensor-parallel group do together in a step: collective operations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"

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
  // numbers = the sum of every rank's, added from rank 0 to the last: the same bits on every rank,
  // and the same for a number wherever in the message it is.
  virtual absl::Status AllReduceSum(std::span<float> numbers) = 0;
};

}  // namespace baton
