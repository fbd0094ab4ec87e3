#include "engine/kv/prefix_index.h"

#include <algorithm>

#include "common/check.h"
#include "common/hash.h"

namespace baton {

namespace {
constexpr BlockId kNone{-1};
}  // namespace

PrefixIndex::PrefixIndex(int32_t num_blocks, int32_t block_size, uint64_t hash_mask)
    : block_size_(block_size),
      hash_mask_(hash_mask),
      nodes_(static_cast<size_t>(num_blocks)),
      tokens_(static_cast<size_t>(num_blocks) * static_cast<size_t>(block_size)) {}

PrefixLink PrefixIndex::Root(uint64_t salt) {
  // The salt itself, not a hash of it: equal root hashes must mean equal salts.
  return {.block = kNone, .generation = 0, .hash = salt};
}

std::optional<PrefixLink> PrefixIndex::Find(const PrefixLink& parent,
                                            std::span<const TokenId> tokens) const {
  BATON_CHECK(static_cast<int32_t>(tokens.size()) == block_size_) << tokens.size();
  const auto found = by_hash_.find(ChainHash(parent.hash, tokens));
  if (found == by_hash_.end()) return std::nullopt;
  const BlockId block = found->second;
  const Node& node = nodes_[Index(block)];
  if (node.parent != parent.block) return std::nullopt;
  if (parent.block == kNone && node.root_hash != parent.hash) return std::nullopt;
  if (parent.block != kNone && !Alive(parent)) return std::nullopt;
  if (!std::ranges::equal(TokensOf(block), tokens)) return std::nullopt;
  return PrefixLink{.block = block, .generation = node.generation, .hash = node.hash};
}

std::optional<PrefixLink> PrefixIndex::Insert(const PrefixLink& parent,
                                              std::span<const TokenId> tokens, BlockId block) {
  BATON_CHECK(Alive(parent)) << "parent " << parent.block << " is gone";
  BATON_CHECK(static_cast<int32_t>(tokens.size()) == block_size_) << tokens.size();
  BATON_CHECK(!Contains(block)) << "block " << block << " already has a node";
  const uint64_t hash = ChainHash(parent.hash, tokens);
  if (!by_hash_.emplace(hash, block).second) return std::nullopt;
  if (change_log_ != nullptr) change_log_->push_back(hash);

  Node& node = nodes_[Index(block)];
  const uint64_t generation = node.generation + 1;
  node = Node{.used = true,
              .generation = generation,
              .hash = hash,
              .root_hash = parent.block == kNone ? parent.hash : 0,
              .parent = parent.block};
  std::ranges::copy(tokens, tokens_.begin() + static_cast<ptrdiff_t>(block.value()) * block_size_);
  if (parent.block != kNone) {
    Node& above = nodes_[Index(parent.block)];
    node.next_sibling = above.first_child;
    if (above.first_child != kNone) nodes_[Index(above.first_child)].previous_sibling = block;
    above.first_child = block;
  }
  return PrefixLink{.block = block, .generation = generation, .hash = hash};
}

bool PrefixIndex::Alive(const PrefixLink& link) const {
  if (link.block == kNone) return true;
  const Node& node = nodes_[Index(link.block)];
  return node.used && node.generation == link.generation;
}

void PrefixIndex::Erase(BlockId block, std::vector<BlockId>* erased) {
  BATON_CHECK(Contains(block)) << "block " << block << " has no node";
  Unlink(block);
  size_t next = erased->size();
  erased->push_back(block);
  for (; next < erased->size(); ++next) {
    Node& node = nodes_[Index((*erased)[next])];
    for (BlockId child = node.first_child; child != kNone;
         child = nodes_[Index(child)].next_sibling) {
      erased->push_back(child);
    }
    by_hash_.erase(node.hash);
    if (change_log_ != nullptr) change_log_->push_back(node.hash);
    node.used = false;
    node.first_child = kNone;
  }
}

std::vector<uint64_t> PrefixIndex::Hashes() const {
  std::vector<uint64_t> hashes;
  hashes.reserve(by_hash_.size());
  for (const auto& [hash, block] : by_hash_) hashes.push_back(hash);
  return hashes;
}

void PrefixIndex::Unlink(BlockId block) {
  const Node& node = nodes_[Index(block)];
  if (node.previous_sibling != kNone) {
    nodes_[Index(node.previous_sibling)].next_sibling = node.next_sibling;
  } else if (node.parent != kNone) {
    nodes_[Index(node.parent)].first_child = node.next_sibling;
  }
  if (node.next_sibling != kNone) {
    nodes_[Index(node.next_sibling)].previous_sibling = node.previous_sibling;
  }
}

void PrefixIndex::CheckInvariants() const {
  int32_t used = 0;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const Node& node = nodes_[i];
    if (!node.used) continue;
    ++used;
    const auto found = by_hash_.find(node.hash);
    BATON_CHECK(found != by_hash_.end() && Index(found->second) == i)
        << "the node of block " << i << " cannot be found by its hash";
    if (node.parent == kNone) continue;
    const Node& parent = nodes_[Index(node.parent)];
    BATON_CHECK(parent.used) << "the node of block " << i << " outlives its parent";
    bool is_child = false;
    for (BlockId c = parent.first_child; c != kNone; c = nodes_[Index(c)].next_sibling) {
      is_child |= Index(c) == i;
    }
    BATON_CHECK(is_child) << "the node of block " << i << " is not among its parent's children";
  }
  BATON_CHECK(used == size()) << used << " nodes, " << size() << " hashes";
}

uint64_t PrefixIndex::ChainHash(uint64_t parent_hash, std::span<const TokenId> tokens) const {
  return PrefixBlockHash(parent_hash, tokens) & hash_mask_;
}

std::span<const TokenId> PrefixIndex::TokensOf(BlockId block) const {
  return std::span(tokens_).subspan(Index(block) * static_cast<size_t>(block_size_),
                                    static_cast<size_t>(block_size_));
}

}  // namespace baton
