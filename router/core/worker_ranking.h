// Workers in the order of a key, so that a decision looks at the first few and never at all.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "router/core/types.h"

namespace baton::router {

// Each worker stands in it at most once. Changes are O(log n); equal keys go by worker. Pure.
template <typename Key>
class WorkerRanking {
 public:
  using Set = absl::btree_set<std::pair<Key, WorkerIndex>>;

  explicit WorkerRanking(int32_t num_workers) : keys_(static_cast<size_t>(num_workers)) {}

  // nullopt takes the worker out.
  void Put(WorkerIndex worker, std::optional<Key> key) {
    std::optional<Key>& known = keys_[static_cast<size_t>(worker.value())];
    if (known == key) return;
    if (known.has_value()) ranked_.erase({*known, worker});
    if (key.has_value()) ranked_.insert({*key, worker});
    known = std::move(key);
  }
  bool Contains(WorkerIndex worker) const {
    return keys_[static_cast<size_t>(worker.value())].has_value();
  }
  const Set& ranked() const { return ranked_; }

 private:
  std::vector<std::optional<Key>> keys_;  // [num_workers]
  Set ranked_;
};

}  // namespace baton::router
