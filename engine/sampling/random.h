// Randomness as a function of where it is used, so that a token does not depend on what was drawn
// before it or elsewhere.
//
// Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
// constexpr lets device code call it.
#pragma once

#include <array>
#include <cstdint>

namespace baton {

constexpr std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter,
                                             std::array<uint32_t, 2> key) {
  constexpr int kRounds = 10;
  constexpr uint32_t kMultiplier0 = 0xd2511f53;
  constexpr uint32_t kMultiplier1 = 0xcd9e8d57;
  constexpr uint32_t kKeyStep0 = 0x9e3779b9;
  constexpr uint32_t kKeyStep1 = 0xbb67ae85;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = uint64_t{kMultiplier0} * counter[0];
    const uint64_t product1 = uint64_t{kMultiplier1} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += kKeyStep0;
    key[1] += kKeyStep1;
  }
  return counter;
}

// Uniform in [0, 1), a multiple of 2^-53, for output token `index` of sample `sample`.
constexpr double UniformAt(uint64_t seed, int32_t sample, int32_t index) {
  const std::array<uint32_t, 4> words =
      Philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(sample), 0, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = (uint64_t{words[0]} << 32) | words[1];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

}  // namespace baton
