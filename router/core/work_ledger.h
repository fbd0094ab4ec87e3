// How much queued work comes before a moment: sums over entries that are ordered by time, exact to
// a slot of 64 ms. Add, Remove and Before are O(slots in use / 64).
#pragma once

#include <cstdint>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"

namespace baton::router {

struct QueuedWork {
  int64_t prefill_us = 0;
  int64_t rows = 0;     // samples
  int64_t context = 0;  // tokens of their prompts, for each sample

  QueuedWork& operator+=(const QueuedWork& other) {
    prefill_us += other.prefill_us;
    rows += other.rows;
    context += other.context;
    return *this;
  }
  QueuedWork operator-() const { return {-prefill_us, -rows, -context}; }
  QueuedWork Share(double share) const {
    const auto part = [share](int64_t whole) {
      return static_cast<int64_t>(share * static_cast<double>(whole));
    };
    return {part(prefill_us), part(rows), part(context)};
  }
};

// Pure. Whole numbers, so that what is removed leaves nothing behind.
class WorkLedger {
 public:
  void Add(absl::Time at, const QueuedWork& work) { Change(SlotOf(at), work); }
  void Remove(absl::Time at, const QueuedWork& work) { Change(SlotOf(at), -work); }
  // The beginnings of the slots behind that of `at` that hold something, in order. O(slots in use).
  template <typename Visit>
  void VisitAfter(absl::Time at, const Visit& visit) const {
    for (auto it = slots_.upper_bound(SlotOf(at)); it != slots_.end(); ++it) {
      visit(absl::FromUnixMillis(it->first * kSlotMs));
    }
  }
  // Before for moments that never go back: all of them together are O(slots in use).
  class Cursor {
   public:
    // `ledger` must not change meanwhile.
    explicit Cursor(const WorkLedger& ledger)
        : next_(ledger.slots_.begin()), end_(ledger.slots_.end()) {}
    const QueuedWork& Before(absl::Time at) {
      for (const int64_t slot = SlotOf(at); next_ != end_ && next_->first <= slot; ++next_) {
        sum_ += next_->second;
      }
      return sum_;
    }

   private:
    absl::btree_map<int64_t, QueuedWork>::const_iterator next_, end_;
    QueuedWork sum_;
  };
  // Of all entries in slots up to that of `at`.
  QueuedWork Before(absl::Time at) const {
    const int64_t slot = SlotOf(at);
    const int64_t page = Floor(slot, kPage);
    QueuedWork sum;
    for (auto it = pages_.begin(); it != pages_.end() && it->first < page; ++it) sum += it->second;
    for (auto it = slots_.lower_bound(page * kPage); it != slots_.end() && it->first <= slot;
         ++it) {
      sum += it->second;
    }
    return sum;
  }

 private:
  static constexpr int64_t kSlotMs = 64;
  static constexpr int64_t kPage = 64;  // slots

  static int64_t Floor(int64_t value, int64_t by) {
    return value >= 0 ? value / by : -((-value + by - 1) / by);
  }
  static int64_t SlotOf(absl::Time at) { return Floor(absl::ToUnixMillis(at), kSlotMs); }
  void Change(int64_t slot, const QueuedWork& work) {
    Change(slots_, slot, work);
    Change(pages_, Floor(slot, kPage), work);
  }
  static void Change(absl::btree_map<int64_t, QueuedWork>& sums, int64_t key,
                     const QueuedWork& work) {
    QueuedWork& sum = sums[key];
    sum += work;
    if (sum.prefill_us == 0 && sum.rows == 0) sums.erase(key);
  }

  absl::btree_map<int64_t, QueuedWork> slots_, pages_;
};

}  // namespace baton::router
