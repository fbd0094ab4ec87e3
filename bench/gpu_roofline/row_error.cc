#include "bench/gpu_roofline/row_error.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/check.h"

namespace baton::roofline {

double WorstRowError(std::span<const Bf16> expected, std::span<const Bf16> actual, size_t columns) {
  BATON_CHECK(expected.size() == actual.size() && expected.size() % columns == 0)
      << expected.size() << actual.size() << columns;
  double worst = 0;
  for (size_t begin = 0; begin < expected.size(); begin += columns) {
    double size = 0;
    double difference = 0;
    for (size_t i = begin; i < begin + columns; ++i) {
      const double number = ToFloat(expected[i]);
      const double off = ToFloat(actual[i]) - number;
      size += number * number;
      difference += off * off;
    }
    if (difference == 0) continue;
    const double error = std::sqrt(difference / size);
    worst = std::isfinite(error) ? std::max(worst, error) : std::numeric_limits<double>::infinity();
  }
  return worst;
}

}  // namespace baton::roofline
