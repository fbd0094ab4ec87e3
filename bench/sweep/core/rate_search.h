// Which rate to measure next to find the largest one that still has a given share of good requests:
// doubling or halving until it lies between two rates, then bisection. Pure.
#pragma once

#include <optional>
#include <span>

#include "bench/sweep/core/goodput_curve.h"

namespace baton::sweep {

struct SearchOptions {
  double first_rate_per_s = 1;
  double least_rate_per_s = 0.05;  // an arm that fails here has no goodput worth the name
  double most_rate_per_s = 1000;
  double tolerance = 0.1;  // the bracket is narrow enough at high <= (1 + tolerance)·low
};

// The next rate to measure given what was, or nothing when the answer is as narrow as asked for.
// Judges by the smoothed curve, so that one unlucky run does not mislead the search for long.
std::optional<double> NextRate(std::span<const Observation> observations, double level,
                               const SearchOptions& options);

// Two rates around the crossing: those worth repeating with other seeds. Equal when the crossing is
// not inside what was measured.
struct Bracket {
  double low_per_s = 0;
  double high_per_s = 0;
};
Bracket BracketOf(std::span<const Observation> observations, double level);

}  // namespace baton::sweep
