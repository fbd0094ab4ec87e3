// The sum of what the ranks of a group have, in the one order that all Communicators keep to.
#pragma once

#include <cstddef>
#include <span>

namespace baton {

// sum[i] = ((parts[0][i] + parts[1][i]) + parts[2][i]) + …, each part as long as `sum`, which is
// none of them.
void SumParts(std::span<const float* const> parts, std::span<float> sum);

}  // namespace baton
