// Which full blocks of tokens already have their KV, as a forest: a node is a block's tokens after
// its parent's.
//
// A node is found by a 64-bit hash over (parent's hash, tokens), and believed only when its parent
// is the node that the lookup came from and all its tokens are equal: a collision can cost a hit,
// never give wrong KV. A node never outlives its parent, so a parent's block id names it uniquely.
// Roots carry a salt: chains of different salts never match.
//
// Pure; not thread-safe. It knows nothing of block states: see PrefixCache.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/ids.h"

namespace baton {

// A place in a chain: the root of a salt, or a node. A link goes stale when its node is erased.
struct PrefixLink {
  BlockId block{-1};  // -1: the root
  uint64_t generation = 0;
  uint64_t hash = 0;  // of the whole chain up to here, salt included
};

class PrefixIndex {
 public:
  // `hash_mask` narrows the hash: tests use it to force collisions.
  PrefixIndex(int32_t num_blocks, int32_t block_size, uint64_t hash_mask = ~uint64_t{0});

  static PrefixLink Root(uint64_t salt);
  // The node of `tokens` ([block_size]) after `parent`.
  std::optional<PrefixLink> Find(const PrefixLink& parent, std::span<const TokenId> tokens) const;

  // Makes `block` the node of `tokens` after `parent`. nullopt: another node has the same hash, and
  // the index stays as it was. REQUIRES: Alive(parent), `block` has no node, Find gives nothing.
  std::optional<PrefixLink> Insert(const PrefixLink& parent, std::span<const TokenId> tokens,
                                   BlockId block);

  // Roots are always alive.
  bool Alive(const PrefixLink& link) const;
  bool Contains(BlockId block) const { return nodes_[Index(block)].used; }
  // Forgets the node of `block` and everything below it; appends their blocks to `erased`, parents
  // first. REQUIRES: Contains(block).
  void Erase(BlockId block, std::vector<BlockId>* erased);

  // The chain hashes of all nodes, in no order.
  std::vector<uint64_t> Hashes() const;
  bool ContainsHash(uint64_t hash) const { return by_hash_.contains(hash); }
  // From now on `log` gets the hash of every node that is made or erased. Null stops it.
  void LogChanges(std::vector<uint64_t>* log) { change_log_ = log; }

  int32_t size() const { return static_cast<int32_t>(by_hash_.size()); }
  void CheckInvariants() const;

 private:
  struct Node {
    bool used = false;
    uint64_t generation = 0;  // counts the uses of this block
    uint64_t hash = 0;
    uint64_t root_hash = 0;  // of its parent, when that is a root: holds the salt
    BlockId parent{-1};
    BlockId first_child{-1};
    BlockId next_sibling{-1};
    BlockId previous_sibling{-1};
  };

  static size_t Index(BlockId block) { return static_cast<size_t>(block.value()); }
  uint64_t ChainHash(uint64_t parent_hash, std::span<const TokenId> tokens) const;
  std::span<const TokenId> TokensOf(BlockId block) const;
  void Unlink(BlockId block);

  const int32_t block_size_;
  const uint64_t hash_mask_;
  std::vector<Node> nodes_;      // [num_blocks]
  std::vector<TokenId> tokens_;  // [num_blocks, block_size]
  absl::flat_hash_map<uint64_t, BlockId> by_hash_;
  std::vector<uint64_t>* change_log_ = nullptr;
};

}  // namespace baton
