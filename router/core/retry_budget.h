// Keeps retries a bounded share of the traffic, so that a failing cluster is not buried in them.
#pragma once

#include <algorithm>

namespace baton::router {

// Each new request earns `ratio` of a retry, up to `capacity`; the budget starts full, so that the
// loss of one busy worker can be made good at once.
class RetryBudget {
 public:
  RetryBudget(double ratio, double capacity)
      : ratio_(ratio), capacity_(capacity), available_(capacity) {}

  void OnRequest() { available_ = std::min(capacity_, available_ + ratio_); }
  bool TryTake() {
    if (available_ < 1.0) return false;
    available_ -= 1.0;
    return true;
  }
  double available() const { return available_; }

 private:
  const double ratio_;
  const double capacity_;
  double available_;
};

}  // namespace baton::router
