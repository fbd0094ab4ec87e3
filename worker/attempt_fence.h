// Remembers which attempts of which requests a worker has accepted, so that a late or repeated
// command of an older attempt is refused.
#pragma once

#include <cstddef>
#include <deque>

#include "absl/container/flat_hash_map.h"
#include "common/ids.h"

namespace baton {

// Pure; owned by a role core. Remembers the last `capacity` requests, oldest forgotten first.
class AttemptFence {
 public:
  explicit AttemptFence(size_t capacity = 65536) : capacity_(capacity) {}

  // True when no equal or higher attempt of this request has been accepted.
  bool IsFresh(RequestKey key) const {
    const auto found = highest_.find(key.request);
    return found == highest_.end() || key.attempt > found->second;
  }

  // Notes an accepted key. REQUIRES: IsFresh(key). A refused key is not noted: the router may offer
  // it again.
  void Accept(RequestKey key) {
    const auto [entry, is_new] = highest_.insert_or_assign(key.request, key.attempt);
    if (!is_new) return;
    order_.push_back(key.request);
    if (order_.size() > capacity_) {
      highest_.erase(order_.front());
      order_.pop_front();
    }
  }

  size_t size() const { return highest_.size(); }

 private:
  const size_t capacity_;
  absl::flat_hash_map<RequestId, uint32_t> highest_;
  std::deque<RequestId> order_;
};

}  // namespace baton
