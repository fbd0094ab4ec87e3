// Which op of a forward pass takes how long.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <string_view>

namespace baton {

enum class OpKind { kLinear, kAttention, kNorm, kRope, kKvWrite, kEmbedding };
inline constexpr std::array<std::string_view, 6> kOpNames = {"linear", "attention", "norms",
                                                             "rope",   "kv write",  "embedding"};

// Seconds that the calling thread spent in each kind of op, what it waited for the other threads
// included. Plain data: who measures sets it to zero.
struct OpTimes {
  std::array<double, kOpNames.size()> seconds{};
  double& operator[](OpKind kind) { return seconds[static_cast<size_t>(kind)]; }
};

// Adds the time of its scope to `times`. With null it does nothing, and reads no clock.
class OpTimer {
 public:
  OpTimer(OpTimes* times, OpKind kind) : times_(times), kind_(kind) {
    if (times_ != nullptr) start_ = std::chrono::steady_clock::now();
  }
  ~OpTimer() {
    if (times_ == nullptr) return;
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start_;
    (*times_)[kind_] += taken.count();
  }
  OpTimer(const OpTimer&) = delete;
  OpTimer& operator=(const OpTimer&) = delete;

 private:
  OpTimes* const times_;
  const OpKind kind_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace baton
