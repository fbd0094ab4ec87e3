// Random weights, each a function of its tensor, row and column alone: hosts and devices that make
// any part of a tensor, in any order, make the same bits.
//
// Inlined and constexpr as bf16.h is, and for the same reasons. Of code that computes RandomNumber
// a multiplication and an addition must not be contracted into one: that would change last bits.
#pragma once

#include <cstdint>

#include "common/hash.h"
#include "engine/kernels/bf16.h"

namespace baton {

// Numbers spread evenly over center ± radius.
struct RandomTensor {
  uint64_t seed = 0;
  float center = 0.0f;
  float radius = 0.0f;
  constexpr float Step() const { return radius * 0x1p-15f; }
};

inline constexpr int kNumbersPerHash = 4;  // 16 random bits each

constexpr uint64_t RandomRowSeed(const RandomTensor& tensor, int64_t row) {
  return HashCombine(tensor.seed, static_cast<uint64_t>(row));
}
// Of columns [column, column + kNumbersPerHash); `column` is a multiple of that.
constexpr uint64_t RandomBits(uint64_t row_seed, int64_t column) {
  return HashCombine(row_seed, static_cast<uint64_t>(column));
}
// The index'th number of `bits`. Rounded to bf16 also for those who compute in f32, so that all
// have the same weights.
[[gnu::always_inline]] constexpr Bf16 RandomNumber(const RandomTensor& tensor, uint64_t bits,
                                                   int index) {
  const auto whole = static_cast<int16_t>(bits >> (16 * index));
  return ToBf16(tensor.center + tensor.Step() * static_cast<float>(whole));
}

}  // namespace baton
