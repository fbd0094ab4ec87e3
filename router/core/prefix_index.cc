#include "router/core/prefix_index.h"

#include <algorithm>
#include <utility>

#include "common/hash.h"

namespace baton::router {
namespace {

// The number of leading indexes for which `held` is true, `held` being monotone.
template <typename Held>
int32_t LeadingTrue(size_t count, const Held& held) {
  size_t low = 0, high = count;  // held below `low`, not held from `high`
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (held(middle)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return static_cast<int32_t>(low);
}

}  // namespace

PrefixHashes HashPrefix(std::span<const TokenId> prompt, int32_t block_size, uint64_t salt) {
  PrefixHashes hashes;
  if (block_size <= 0) return hashes;
  const auto block_tokens = static_cast<size_t>(block_size);
  const size_t blocks = prompt.size() / block_tokens;
  hashes.reserve(blocks);
  uint64_t chain = salt;
  for (size_t i = 0; i < blocks; ++i) {
    chain = PrefixBlockHash(chain, prompt.subspan(i * block_tokens, block_tokens));
    hashes.push_back(chain);
  }
  return hashes;
}

void PrefixIndex::Forget(WorkerIndex worker) {
  const auto found = workers_.find(worker);
  if (found == workers_.end()) return;
  Clear(worker, found->second);
  workers_.erase(found);
}

bool PrefixIndex::Apply(const KvCacheEvent& event) {
  const WorkerIndex worker = event.from.worker;
  WorkerBlocks& blocks = workers_[worker];
  if (event.snapshot) {
    Clear(worker, blocks);
    blocks.in_step = true;
    blocks.told = false;
  } else if (!blocks.in_step || event.sequence != blocks.next_sequence) {
    Clear(worker, blocks);
    blocks.in_step = false;
    return std::exchange(blocks.told, true);
  }
  blocks.next_sequence = event.sequence + 1;
  for (const uint64_t hash : event.removed) {
    if (blocks.held.erase(hash) > 0) RemoveHolder(worker, hash);
  }
  for (const uint64_t hash : event.stored) Add(worker, blocks, hash);
  return true;
}

int32_t PrefixIndex::HeldBlocks(WorkerIndex worker, const PrefixHashes& prompt) const {
  const auto found = workers_.find(worker);
  if (found == workers_.end()) return 0;
  const absl::flat_hash_set<uint64_t>& held = found->second.held;
  return LeadingTrue(prompt.size(), [&](size_t i) { return held.contains(prompt[i]); });
}

PrefixHolders PrefixIndex::Longest(const PrefixHashes& prompt) const {
  const int32_t blocks =
      LeadingTrue(prompt.size(), [&](size_t i) { return holders_.contains(prompt[i]); });
  if (blocks == 0) return {};
  return {blocks, holders_.at(prompt[static_cast<size_t>(blocks) - 1])};
}

void PrefixIndex::Add(WorkerIndex worker, WorkerBlocks& blocks, uint64_t hash) {
  if (entries_ >= max_entries_) {
    ++dropped_;
    return;
  }
  if (!blocks.held.insert(hash).second) return;
  Holders& holders = holders_[hash];
  holders.insert(std::lower_bound(holders.begin(), holders.end(), worker), worker);
  ++entries_;
}

void PrefixIndex::RemoveHolder(WorkerIndex worker, uint64_t hash) {
  const auto found = holders_.find(hash);
  Holders& holders = found->second;
  holders.erase(std::lower_bound(holders.begin(), holders.end(), worker));
  if (holders.empty()) holders_.erase(found);
  --entries_;
}

void PrefixIndex::Clear(WorkerIndex worker, WorkerBlocks& blocks) {
  for (const uint64_t hash : blocks.held) RemoveHolder(worker, hash);
  blocks.held.clear();
}

}  // namespace baton::router
