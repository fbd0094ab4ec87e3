// Which worker served a prompt's first blocks last: a guess at where its prefix cache still is.
#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <vector>

#include "common/request.h"
#include "router/core/types.h"

namespace baton::router {

// Chained hashes of the first whole blocks of a prompt; hash i covers blocks 0..i and the salt.
using PrefixHashes = std::vector<uint64_t>;  // [min(whole blocks, kMaxPrefixBlocks)]
inline constexpr int32_t kMaxPrefixBlocks = 32;
PrefixHashes HashPrefix(std::span<const TokenId> prompt, int32_t block_size, uint64_t salt);

struct AffinityHit {
  WorkerIndex prefill = kNoWorker;
  WorkerIndex decode = kNoWorker;
  int32_t blocks = 0;  // that matched; 0: no hit
};

// Bounded; forgets what was used longest ago. Not thread-safe. Pure.
class PrefixAffinity {
 public:
  explicit PrefixAffinity(size_t max_entries) : max_entries_(max_entries) {}

  void Record(const PrefixHashes& hashes, WorkerIndex prefill, WorkerIndex decode);
  // The longest recorded prefix.
  AffinityHit Find(const PrefixHashes& hashes) const;
  // A restarted worker has an empty cache.
  void Forget(WorkerIndex worker);
  size_t size() const { return by_hash_.size(); }

 private:
  struct Entry {
    uint64_t hash = 0;
    WorkerIndex prefill = kNoWorker;
    WorkerIndex decode = kNoWorker;
  };

  const size_t max_entries_;
  std::list<Entry> entries_;  // most recently recorded first
  std::unordered_map<uint64_t, std::list<Entry>::iterator> by_hash_;
};

}  // namespace baton::router
