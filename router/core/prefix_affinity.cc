#include "router/core/prefix_affinity.h"

#include <algorithm>

#include "common/hash.h"

namespace baton::router {

PrefixHashes HashPrefix(std::span<const TokenId> prompt, int32_t block_size, uint64_t salt) {
  PrefixHashes hashes;
  if (block_size <= 0) return hashes;
  const auto block_tokens = static_cast<size_t>(block_size);
  const size_t blocks = std::min<size_t>(prompt.size() / block_tokens, kMaxPrefixBlocks);
  hashes.reserve(blocks);
  uint64_t chain = salt;
  for (size_t i = 0; i < blocks; ++i) {
    const auto block = prompt.subspan(i * block_tokens, block_tokens);
    chain = PrefixBlockHash(chain, block);
    hashes.push_back(chain);
  }
  return hashes;
}

void PrefixAffinity::Record(const PrefixHashes& hashes, WorkerIndex prefill, WorkerIndex decode) {
  for (const uint64_t hash : hashes) {
    if (const auto found = by_hash_.find(hash); found != by_hash_.end()) {
      entries_.erase(found->second);
      by_hash_.erase(found);
    }
    entries_.push_front({hash, prefill, decode});
    by_hash_[hash] = entries_.begin();
    if (by_hash_.size() > max_entries_) {
      by_hash_.erase(entries_.back().hash);
      entries_.pop_back();
    }
  }
}

AffinityHit PrefixAffinity::Find(const PrefixHashes& hashes) const {
  for (size_t blocks = hashes.size(); blocks > 0; --blocks) {
    const auto found = by_hash_.find(hashes[blocks - 1]);
    if (found == by_hash_.end()) continue;
    return {found->second->prefill, found->second->decode, static_cast<int32_t>(blocks)};
  }
  return {};
}

void PrefixAffinity::Forget(WorkerIndex worker) {
  for (auto it = entries_.begin(); it != entries_.end();) {
    if (it->prefill == worker) it->prefill = kNoWorker;
    if (it->decode == worker) it->decode = kNoWorker;
    if (it->prefill == kNoWorker && it->decode == kNoWorker) {
      by_hash_.erase(it->hash);
      it = entries_.erase(it);
    } else {
      ++it;
    }
  }
}

}  // namespace baton::router
