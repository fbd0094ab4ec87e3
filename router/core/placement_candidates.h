// Which workers a decision looks at. Internal to placement.
#pragma once

#include <algorithm>
#include <span>

#include "absl/container/inlined_vector.h"
#include "router/core/placement.h"

namespace baton::router {

using Candidates = absl::InlinedVector<WorkerIndex, 16>;

inline constexpr size_t kBestByLoad = 6;
inline constexpr size_t kHolders = 4;

inline bool Contains(std::span<const WorkerIndex> list, WorkerIndex worker) {
  return std::find(list.begin(), list.end(), worker) != list.end();
}

// The first few of the ranking, and those of it that hold the longest prefix, as far as they are
// `eligible`. Workers to avoid come in only if there is no other.
template <typename Key, typename Eligible>
Candidates Pick(const WorkerRanking<Key>& ranking, const PrefixIndex& prefixes,
                const PlacementQuery& query, const Eligible& eligible) {
  Candidates picked, avoided;
  for (const auto& [key, worker] : ranking.ranked()) {
    if (picked.size() >= kBestByLoad) break;
    if (Contains(query.never, worker) || !eligible(worker)) continue;
    if (!Contains(query.avoid, worker)) {
      picked.push_back(worker);
    } else if (avoided.size() < kBestByLoad) {
      avoided.push_back(worker);
    }
  }
  if (query.prefix != nullptr && !query.prefix->empty()) {
    size_t added = 0, looked = 0;
    for (const WorkerIndex worker : prefixes.Longest(*query.prefix).workers) {
      if (added >= kHolders || ++looked > 4 * kHolders) break;
      if (!ranking.Contains(worker) || Contains(query.never, worker) ||
          Contains(query.avoid, worker) || Contains(picked, worker) || !eligible(worker)) {
        continue;
      }
      picked.push_back(worker);
      ++added;
    }
  }
  return picked.empty() ? avoided : picked;
}

template <typename Key>
Candidates Pick(const WorkerRanking<Key>& ranking, const PrefixIndex& prefixes,
                const PlacementQuery& query) {
  return Pick(ranking, prefixes, query, [](WorkerIndex) { return true; });
}

// Tokens of the prompt whose KV the worker holds. The last token is always computed.
inline int64_t CachedTokens(const PlacementParts& parts, WorkerIndex worker,
                            const PlacementQuery& query) {
  if (query.prefix == nullptr || query.prefix->empty()) return 0;
  const WorkerInfo& info = parts.cluster.worker(worker).info;
  const PrefixIndex& index = parts.prefixes[static_cast<size_t>(info.role)];
  const int64_t held = int64_t{1} * index.HeldBlocks(worker, *query.prefix) * info.block_size;
  return std::min(held, query.tokens - 1);
}

}  // namespace baton::router
