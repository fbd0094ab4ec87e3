// The only way one loop hands work to another: a bounded queue with one consumer.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace baton {

// Any thread may Push; one thread drains. Push never blocks: a full mailbox refuses, and the
// caller decides what overload means for it. After Close, pushes are refused and the consumer sees
// what was already queued, then nothing.
template <typename T>
class Mailbox {
 public:
  // `wake`, if given, is called after each push that found the mailbox empty, outside the lock: for
  // consumers that sleep elsewhere (an eventfd, an io_context).
  explicit Mailbox(size_t capacity, std::function<void()> wake = nullptr)
      : capacity_(capacity), wake_(std::move(wake)) {}

  // False when full or closed; the item is then dropped.
  [[nodiscard]] bool Push(T item) {
    bool was_empty = false;
    {
      absl::MutexLock lock(&mutex_);
      if (closed_ || items_.size() >= capacity_) return false;
      was_empty = items_.empty();
      items_.push_back(std::move(item));
    }
    if (was_empty && wake_) wake_();
    return true;
  }

  // Takes everything queued, without waiting. Oldest first.
  std::vector<T> TakeAll() {
    absl::MutexLock lock(&mutex_);
    return TakeAllLocked();
  }

  // Waits until something is queued, the mailbox is closed, or `timeout` has passed.
  std::vector<T> WaitAndTakeAll(absl::Duration timeout) {
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(this, &Mailbox::ReadyLocked), timeout);
    return TakeAllLocked();
  }

  bool empty() const {
    absl::MutexLock lock(&mutex_);
    return items_.empty();
  }

  void Close() {
    {
      absl::MutexLock lock(&mutex_);
      closed_ = true;
    }
    if (wake_) wake_();
  }

  bool closed() const {
    absl::MutexLock lock(&mutex_);
    return closed_;
  }

 private:
  bool ReadyLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return closed_ || !items_.empty();
  }
  std::vector<T> TakeAllLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<T> taken(std::make_move_iterator(items_.begin()),
                         std::make_move_iterator(items_.end()));
    items_.clear();
    return taken;
  }

  const size_t capacity_;
  const std::function<void()> wake_;
  mutable absl::Mutex mutex_;
  std::deque<T> items_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace baton
