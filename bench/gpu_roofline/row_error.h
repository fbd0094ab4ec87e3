// How far one result is from another.
#pragma once

#include <cstddef>
#include <span>

#include "engine/kernels/bf16.h"

namespace baton::roofline {

// The largest difference of a row of `columns` numbers over that row in `expected`, each as the
// root of the mean square. A NaN anywhere, or a row of zeros that differs, is infinity. REQUIRES:
// as many numbers in both, whole rows.
double WorstRowError(std::span<const Bf16> expected, std::span<const Bf16> actual, size_t columns);

}  // namespace baton::roofline
