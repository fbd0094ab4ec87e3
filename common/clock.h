// Time as every part of Baton sees it: pure cores are handed a time, shells ask a Clock.
#pragma once

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace baton {

// Thread-safe. Now() is monotonic: its origin is arbitrary, differences are what matters.
// Wall-clock time appears only where a client sees it (`created`) and in logs.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class MonotonicClock final : public Clock {
 public:
  absl::Time Now() const override;  // CLOCK_MONOTONIC
};

// A clock that stands still until the test moves it. Not thread-safe.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(absl::Time start = absl::UnixEpoch()) : now_(start) {}
  absl::Time Now() const override { return now_; }
  void Advance(absl::Duration by) { now_ += by; }

 private:
  absl::Time now_;
};

}  // namespace baton
