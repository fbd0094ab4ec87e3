// The free blocks of a pool, kept as maximal runs of neighbours.
//
// KV transfers coalesce neighbouring blocks into one message, so allocation prefers whole runs:
// the smallest run that fits, else the largest ones. All operations are O(log n) per run touched.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"

namespace baton {

class FreeRuns {
 public:
  // All of [0, num_blocks) is free.
  explicit FreeRuns(int32_t num_blocks);

  int32_t size() const { return size_; }
  int32_t num_runs() const { return static_cast<int32_t>(by_start_.size()); }

  // Takes `count` blocks and appends their indexes to `taken`. A run that starts at `preferred` (or
  // -1: no wish) is used first. REQUIRES: count <= size().
  void Take(int32_t count, int32_t preferred, std::vector<int32_t>* taken);

  // REQUIRES: `block` is not free.
  void Put(int32_t block);

  bool Contains(int32_t block) const;
  // Aborts when runs overlap, touch, or do not add up.
  void CheckInvariants() const;

 private:
  using Run = std::pair<int32_t, int32_t>;  // start, length

  void Insert(Run run);
  void Erase(Run run);
  void TakeFront(Run run, int32_t count, std::vector<int32_t>* taken);

  int32_t size_ = 0;
  absl::btree_map<int32_t, int32_t> by_start_;              // start → length
  absl::btree_set<std::pair<int32_t, int32_t>> by_length_;  // (length, start)
};

}  // namespace baton
