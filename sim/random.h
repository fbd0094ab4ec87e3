// Random numbers that are the same on every machine: the standard library's distributions are not.
#pragma once

#include <cmath>
#include <cstdint>

#include "absl/time/time.h"
#include "common/hash.h"

namespace baton::sim {

// Not thread-safe. Pure.
class Random {
 public:
  explicit Random(uint64_t seed) : seed_(seed) {}

  uint64_t Next() { return HashCombine(seed_, counter_++); }
  // [0, 1)
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }
  double Exponential(double mean) { return -mean * std::log1p(-Uniform()); }
  // [0, bound)
  int32_t Below(int32_t bound) {
    return static_cast<int32_t>(Next() % static_cast<uint64_t>(bound));
  }
  // [low, high]
  int32_t Between(int32_t low, int32_t high) { return low + Below(high - low + 1); }
  absl::Duration Between(absl::Duration low, absl::Duration high) {
    return low + (high - low) * Uniform();
  }
  bool Chance(int32_t percent) { return Below(100) < percent; }

 private:
  uint64_t seed_;
  uint64_t counter_ = 0;
};

}  // namespace baton::sim
