// The largest values of a row without sorting all of it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/ids.h"

namespace baton {

struct Candidate {
  float value = 0;
  TokenId token = 0;
};

// The min(count, row.size()) largest values, largest first, equal ones by lowest token. `top` is
// overwritten. O(row + count log count) for small counts.
void SelectTop(std::span<const float> row, int32_t count, std::vector<Candidate>* top);

// The fewest largest `weights` whose sum reaches `mass`, largest first, equal ones by lowest token;
// all that are not 0 when their sum does not reach it. `top` is overwritten. O(weights) and a sort
// of little more than the result. REQUIRES: weights in [0, 1].
void SelectMass(std::span<const float> weights, double mass, std::vector<Candidate>* top);

}  // namespace baton
