// Randomness as a function of where it is used, so that a token does not depend on what was drawn
// before it or elsewhere.
//
// Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
#pragma once

#include <array>
#include <cstdint>

namespace baton {

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Uniform in [0, 1), a multiple of 2^-53, for output token `index` of sample `sample`.
double UniformAt(uint64_t seed, int32_t sample, int32_t index);

}  // namespace baton
