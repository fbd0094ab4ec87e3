// How the ranks of a model join what each has computed of a matrix.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "engine/kernels/aligned_buffer.h"
#include "engine/model/model_shard.h"
#include "engine/parallel/communicator.h"

namespace baton {

// Not thread-safe. After an error it does nothing any more and status() keeps it: a step asks once,
// at its end.
class ShardExchange {
 public:
  // `communicator`: of shard.size ranks.
  ShardExchange(const ModelShard& shard, std::unique_ptr<Communicator> communicator);

  const ModelShard& shard() const { return shard_; }
  const absl::Status& status() const { return status_; }

  // What ranks have of a matrix by its columns: [rows, shard.Of(width).count()] numbers of
  // `number_bytes` each.
  struct Columns {
    const void* mine = nullptr;
    int32_t rows = 0;
    int32_t width = 0;  // of all ranks together
    int64_t number_bytes = 0;
  };
  // output = [rows, width], on every rank. Not `mine`.
  void Join(const Columns& columns, void* output);
  // The same on rank 0 only.
  void JoinAtFirst(const Columns& columns, void* output);
  // The sum of every rank's `numbers`, in place.
  void Sum(float* numbers, size_t count);

 private:
  void Join(const Columns& columns, bool at_first, void* output);
  std::span<const std::byte> Padded(const Columns& columns);

  const ModelShard shard_;
  const std::unique_ptr<Communicator> communicator_;
  absl::Status status_;
  AlignedBuffer padded_;    // [rows, Widest(width)]: all ranks send as much
  AlignedBuffer gathered_;  // [size, rows, Widest(width)]
};

}  // namespace baton
