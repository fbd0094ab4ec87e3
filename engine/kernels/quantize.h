// Numbers in groups of 32 with one scale each: weights as int8 or int4 when a model loads,
// activations as int8 before each product with such weights.
//
// The products of a group are summed exactly, in integers, and the groups in rising order in f32:
// a row's result does not depend on its batch, and is the same on every instruction set.
#pragma once

#include <cstdint>

#include "engine/kernels/bf16.h"
#include "engine/kernels/kernel_table.h"

namespace baton {

inline constexpr int32_t kQuantGroup = 32;
constexpr int32_t NumQuantGroups(int32_t k) { return (k + kQuantGroup - 1) / kQuantGroup; }

// Levels of weights are stored unsigned, for the instructions that multiply them:
// weight = scale * (level - bias), int8 levels from 0 to 255, int4 ones from 0 to 15.
inline constexpr int32_t kInt8Bias = 128;
inline constexpr int32_t kInt4Bias = 8;
// Of one output's group: levels and scale.
constexpr int64_t QuantGroupBytes(WeightElement element) {
  const int32_t level_bytes = element == WeightElement::kInt4 ? kQuantGroup / 2 : kQuantGroup;
  return int64_t{sizeof(Bf16)} + level_bytes;
}
// A group with a NaN or an infinity has the scale NaN, of weights and of activations alike: what is
// multiplied with it is NaN too, as without rounding.

// Activations: value = scale * quant, quants from -127 to 127.
struct QuantizedRows {
  const int8_t* quants = nullptr;  // [rows, groups * 32]
  const float* scales = nullptr;   // [rows, groups]
  const int32_t* sums = nullptr;   // [rows, groups], of the group's quants
  int32_t groups = 0;
};

struct QuantizeArgs {
  const void* input = nullptr;  // [rows, k] of the activation dtype
  int8_t* quants = nullptr;     // as in QuantizedRows
  float* scales = nullptr;
  int32_t* sums = nullptr;
  int32_t rows = 0;
  int32_t k = 0;
};

}  // namespace baton
