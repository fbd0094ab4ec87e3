// Logits as a language model has them, of a vocabulary of any size.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/sampling/random.h"

namespace baton {

// A few likely tokens over a wide bell. Random weights give flat rows in its place, of which top-p
// keeps most of the vocabulary.
inline void FillPeakedLogits(std::span<float> logits) {
  constexpr size_t kLikely = 20;
  for (size_t i = 0; i < logits.size(); ++i) {
    const auto index = static_cast<int32_t>(i);
    const double u = UniformAt(1, 0, index) + 1e-12;
    const double angle = 6.283185307179586 * UniformAt(1, 1, index);
    logits[i] = static_cast<float>(2.5 * std::sqrt(-2 * std::log(u)) * std::cos(angle));
  }
  for (size_t i = 0; i < kLikely; ++i) {
    logits[i * 6007 % logits.size()] = 14.0f - 0.4f * static_cast<float>(i);
  }
}

}  // namespace baton
