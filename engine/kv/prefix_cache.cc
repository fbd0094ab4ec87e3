#include "engine/kv/prefix_cache.h"

#include <algorithm>
#include <optional>

#include "common/check.h"

namespace baton {

bool PrefixCache::Allocate(int32_t count, BlockId preferred, std::vector<BlockRef>* out) {
  if (count > available()) return false;
  while (pool_.Count(BlockState::kFree) < count) EvictOldest();
  pool_.Allocate(count, preferred, out);
  return true;
}

std::vector<PrefixLink> PrefixCache::Match(uint64_t salt, std::span<const TokenId> tokens,
                                           int32_t max_blocks) const {
  std::vector<PrefixLink> chain;
  const auto block_size = static_cast<size_t>(block_size_);
  PrefixLink link = PrefixIndex::Root(salt);
  for (int32_t i = 0; i < max_blocks; ++i) {
    const auto found =
        index_.Find(link, tokens.subspan(static_cast<size_t>(i) * block_size, block_size));
    if (!found) break;
    link = *found;
    chain.push_back(link);
  }
  return chain;
}

void PrefixCache::Register(uint64_t salt, std::span<const TokenId> tokens,
                           std::span<const BlockId> blocks, PrefixProgress* progress) {
  if (progress->collided) return;
  const auto block_size = static_cast<size_t>(block_size_);
  const auto full_blocks = static_cast<int32_t>(tokens.size() / block_size);
  if (progress->blocks == full_blocks) return;
  // Where a twin's block was evicted, our own takes its place: start over.
  if (progress->blocks == 0 || !index_.Alive(progress->link)) {
    *progress = PrefixProgress{.link = PrefixIndex::Root(salt)};
  }
  for (; progress->blocks < full_blocks; ++progress->blocks) {
    const auto logical = static_cast<size_t>(progress->blocks);
    const auto block_tokens = tokens.subspan(logical * block_size, block_size);
    std::optional<PrefixLink> link = index_.Find(progress->link, block_tokens);
    if (!link) {
      link = index_.Insert(progress->link, block_tokens, blocks[logical]);
      if (!link) {
        progress->collided = true;
        return;
      }
      pool_.SetIndexed(blocks[logical], true);
    }
    progress->link = *link;
  }
}

void PrefixCache::EvictOldest() {
  erased_.clear();
  index_.Erase(pool_.OldestCached(), &erased_);
  for (const BlockId block : erased_) {
    if (pool_.State(block) == BlockState::kCached) {
      pool_.Evict(block);
    } else {
      pool_.SetIndexed(block, false);
    }
  }
}

PrefixChanges PrefixCache::TakeChanges() {
  PrefixChanges changes;
  if (!logs_changes_) {
    logs_changes_ = true;
    index_.LogChanges(&changed_);
    changes.stored = index_.Hashes();
    return changes;
  }
  std::ranges::sort(changed_);
  changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
  for (const uint64_t hash : changed_) {
    (index_.ContainsHash(hash) ? changes.stored : changes.removed).push_back(hash);
  }
  changed_.clear();
  return changes;
}

void PrefixCache::CheckInvariants() const {
  pool_.CheckInvariants();
  index_.CheckInvariants();
  for (int32_t i = 0; i < pool_.num_blocks(); ++i) {
    BATON_CHECK(pool_.indexed(BlockId(i)) == index_.Contains(BlockId(i)))
        << "pool and index disagree about block " << i;
  }
}

}  // namespace baton
