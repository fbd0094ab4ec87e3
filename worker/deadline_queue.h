// Which keys are due when. Pure; owned by a role core.
#pragma once

#include <set>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/ids.h"

namespace baton {

// Each key is in at most once; the caller passes the same `when` to Remove as to Add.
class DeadlineQueue {
 public:
  void Add(absl::Time when, RequestKey key) {
    if (when != absl::InfiniteFuture()) due_.emplace(when, key);
  }
  void Remove(absl::Time when, RequestKey key) { due_.erase({when, key}); }

  // InfiniteFuture when nothing is due ever.
  absl::Time Next() const { return due_.empty() ? absl::InfiniteFuture() : due_.begin()->first; }

  // Takes out every key whose time has come, earliest first.
  std::vector<RequestKey> TakeDue(absl::Time now) {
    std::vector<RequestKey> keys;
    while (!due_.empty() && due_.begin()->first <= now) {
      keys.push_back(due_.begin()->second);
      due_.erase(due_.begin());
    }
    return keys;
  }

  size_t size() const { return due_.size(); }

 private:
  std::set<std::pair<absl::Time, RequestKey>> due_;
};

}  // namespace baton
