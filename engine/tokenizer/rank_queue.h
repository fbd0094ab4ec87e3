// The order in which the pairs of a long word merge.
#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace baton {

// A priority queue of (rank, position), smallest first. Made for what merging does: many positions
// share few ranks, and those of one rank mostly arrive in order, so that most pushes and pops only
// touch the end of an array. At worst O(log n) each. Not thread-safe.
class RankQueue {
 public:
  struct Entry {
    int32_t rank = 0;
    int32_t position = 0;
  };

  void Push(Entry entry);
  Entry Pop();  // REQUIRES: not empty
  bool empty() const { return ranks_.empty(); }

 private:
  using Smallest = std::priority_queue<int32_t, std::vector<int32_t>, std::greater<int32_t>>;
  // The positions of one rank.
  struct Bucket {
    std::vector<int32_t> positions;  // sorted once the first is taken
    size_t taken = 0;
    bool in_order = true;  // `positions` is sorted already
    Smallest late;         // arrived after the first was taken

    bool empty() const { return taken == positions.size() && late.empty(); }
    void Push(int32_t position);
    int32_t Pop();
  };

  absl::flat_hash_map<int32_t, size_t> bucket_of_rank_;  // index into buckets_
  std::vector<Bucket> buckets_;
  Smallest ranks_;  // those with positions, each once
};

}  // namespace baton
