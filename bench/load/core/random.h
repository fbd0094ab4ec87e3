// Random draws that are the same on every machine and in every version: the standard library's
// distributions are not, and a seed in a report must reproduce its run.
#pragma once

#include <cstdint>

namespace baton::load {

// xoshiro256** (Blackman and Vigna), seeded by SplitMix64. Not thread-safe.
class Rng {
 public:
  // `stream` separates uses of one seed: arrivals do not move when lengths draw more.
  Rng(uint64_t seed, uint64_t stream);

  uint64_t Next();
  double Uniform();                               // in (0, 1]
  int64_t UniformInt(int64_t low, int64_t high);  // in [low, high], low <= high
  double Exponential();                           // mean 1
  double Normal();                                // mean 0, variance 1
  double Gamma(double shape);                     // mean `shape`, scale 1; shape > 0

 private:
  uint64_t state_[4];
};

}  // namespace baton::load
