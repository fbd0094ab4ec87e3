// A block pool that keeps the KV of ended sequences until the room is needed.
//
// Joins BlockPool (states, references, LRU) and PrefixIndex (which tokens a block holds). Blocks
// are evicted least recently used first. A sequence drops its last blocks first, so leaves go
// before the prefixes that they build on; where a chain continues from a block that another
// sequence owned, evicting that block also forgets what is below it.
//
// Pure; not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/ids.h"
#include "engine/kv/block_pool.h"
#include "engine/kv/prefix_index.h"

namespace baton {

// How far a sequence's own blocks are known to the index.
struct PrefixProgress {
  PrefixLink link;
  int32_t blocks = 0;     // logical blocks [0, blocks) are in the index, ours or a twin's
  bool collided = false;  // a block could not be indexed: neither can those after it
};

// What happened to the index: first `removed`, then `stored`. Blocks are named by the hash of their
// whole chain (common/hash.h).
struct PrefixChanges {
  std::vector<uint64_t> removed;
  std::vector<uint64_t> stored;
  bool empty() const { return removed.empty() && stored.empty(); }
};

class PrefixCache {
 public:
  PrefixCache(int32_t num_blocks, int32_t block_size, uint64_t hash_mask = ~uint64_t{0})
      : block_size_(block_size), pool_(num_blocks), index_(num_blocks, block_size, hash_mask) {}

  BlockPool& pool() { return pool_; }
  const BlockPool& pool() const { return pool_; }
  const PrefixIndex& index() const { return index_; }
  int32_t block_size() const { return block_size_; }

  // Blocks that Allocate could give now: free and cached.
  int32_t available() const {
    return pool_.Count(BlockState::kFree) + pool_.Count(BlockState::kCached);
  }
  // Evicts as needed. False when there is not enough room; nothing is taken then.
  bool Allocate(int32_t count, BlockId preferred, std::vector<BlockRef>* out);

  // The longest indexed chain of full blocks of `tokens`, at most `max_blocks`. Takes no reference:
  // the answer holds until the next Allocate.
  std::vector<PrefixLink> Match(uint64_t salt, std::span<const TokenId> tokens,
                                int32_t max_blocks) const;

  // Indexes the blocks of `tokens` whose KV is final: full logical blocks from progress->blocks on.
  // `blocks` is the sequence's block table; the caller holds references to it. A block whose tokens
  // the index already has stays private.
  void Register(uint64_t salt, std::span<const TokenId> tokens, std::span<const BlockId> blocks,
                PrefixProgress* progress);

  // Since the call before; what came and went in between is not told. The first call is the
  // beginning: it tells everything. Whoever calls once must go on, for changes pile up.
  PrefixChanges TakeChanges();

  void CheckInvariants() const;

 private:
  void EvictOldest();

  const int32_t block_size_;
  BlockPool pool_;
  PrefixIndex index_;
  std::vector<BlockId> erased_;  // scratch of EvictOldest
  bool logs_changes_ = false;
  std::vector<uint64_t> changed_;  // hashes; some of them more than once
};

}  // namespace baton
