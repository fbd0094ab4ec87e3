// The one queue of the system: what is admitted and not yet dispatched.
#pragma once

#include <cstdint>
#include <set>
#include <tuple>

#include "absl/time/time.h"
#include "common/ids.h"

namespace baton::router {

struct QueueLimits {
  int32_t max_requests = 4096;
  int64_t max_bytes = int64_t{256} << 20;  // of prompts
};

// Order: priority (lower first), then slack (`start_by`: the latest dispatch that still meets the
// TTFT objective; slack at any moment is start_by - now, so the order does not change as time
// passes), then arrival. All operations O(log n). Not thread-safe. Pure.
class RequestQueue {
 public:
  struct Entry {
    int32_t priority = 0;
    absl::Time start_by;
    uint64_t arrival_number = 0;  // unique
    RequestId request;
    int64_t bytes = 0;

    friend bool operator<(const Entry& a, const Entry& b) {
      return std::tie(a.priority, a.start_by, a.arrival_number) <
             std::tie(b.priority, b.start_by, b.arrival_number);
    }
  };

  explicit RequestQueue(const QueueLimits& limits) : limits_(limits) {}

  // For new requests. One that was dispatched and comes back is pushed without asking: it was
  // admitted before.
  bool HasRoom(int64_t bytes) const {
    return size() < limits_.max_requests && bytes_ + bytes <= limits_.max_bytes;
  }
  void Push(const Entry& entry) {
    if (entries_.insert(entry).second) bytes_ += entry.bytes;
  }
  void Remove(const Entry& entry) {
    const int64_t bytes = entry.bytes;  // `entry` may be the one in the set
    if (entries_.erase(entry) > 0) bytes_ -= bytes;
  }
  // REQUIRES: !empty().
  const Entry& front() const { return *entries_.begin(); }

  bool empty() const { return entries_.empty(); }
  int32_t size() const { return static_cast<int32_t>(entries_.size()); }
  int64_t bytes() const { return bytes_; }

 private:
  const QueueLimits limits_;
  std::set<Entry> entries_;
  int64_t bytes_ = 0;
};

}  // namespace baton::router
