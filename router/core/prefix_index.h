// Which workers hold which prompt prefixes, as they say themselves by KvCacheEvents.
//
// A block is named by the hash of everything up to its end, so a prompt is a list of hashes and a
// worker that holds hash i holds blocks 0..i as long as caches give up the ends of chains first.
// That makes "held" monotone along a prompt, and the longest held prefix a binary search.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/inlined_vector.h"
#include "common/request.h"
#include "router/core/events.h"
#include "router/core/types.h"

namespace baton::router {

// Chained hashes of the whole blocks of a prompt; hash i covers blocks 0..i and the salt.
using PrefixHashes = std::vector<uint64_t>;  // [whole blocks]
PrefixHashes HashPrefix(std::span<const TokenId> prompt, int32_t block_size, uint64_t salt);

struct PrefixHolders {
  int32_t blocks = 0;                    // of the longest prefix that any worker holds
  std::span<const WorkerIndex> workers;  // that hold it; valid until the next change
};

// Bounded: when full, what workers store is not taken in until something goes. Not thread-safe.
// Pure.
class PrefixIndex {
 public:
  explicit PrefixIndex(size_t max_entries) : max_entries_(max_entries) {}

  // A new session: nothing is known of the worker until its snapshot comes.
  void Forget(WorkerIndex worker);
  // False: a batch was lost. What was known of the worker is void, and further batches are ignored,
  // until a snapshot comes; said once for each loss.
  bool Apply(const KvCacheEvent& event);

  // Blocks of the prompt that the worker holds. O(log blocks).
  int32_t HeldBlocks(WorkerIndex worker, const PrefixHashes& prompt) const;
  PrefixHolders Longest(const PrefixHashes& prompt) const;

  size_t entries() const { return entries_; }  // (worker, block) pairs
  uint64_t dropped() const { return dropped_; }

 private:
  using Holders = absl::InlinedVector<WorkerIndex, 4>;  // ascending

  struct WorkerBlocks {
    bool in_step = false;  // a snapshot came and no batch was lost since
    bool told = false;     // that it is not
    uint64_t next_sequence = 0;
    absl::flat_hash_set<uint64_t> held;
  };

  void Add(WorkerIndex worker, WorkerBlocks& blocks, uint64_t hash);
  void RemoveHolder(WorkerIndex worker, uint64_t hash);
  void Clear(WorkerIndex worker, WorkerBlocks& blocks);

  const size_t max_entries_;
  size_t entries_ = 0;
  uint64_t dropped_ = 0;
  absl::flat_hash_map<uint64_t, Holders> holders_;
  absl::flat_hash_map<WorkerIndex, WorkerBlocks> workers_;
};

}  // namespace baton::router
