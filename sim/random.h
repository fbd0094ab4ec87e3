// Random numbers that are the same on every machine: the standard library's distributions are not.
#pragma once

#include <cmath>
#include <cstdint>

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

 private:
  const uint64_t seed_;
  uint64_t counter_ = 0;
};

}  // namespace baton::sim
