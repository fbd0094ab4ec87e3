// Weights rounded to int8 or int4 when a model loads, several outputs at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/bf16.h"
#include "engine/kernels/kernel_table.h"

namespace baton {

// Columns that are rounded together: PackFormat::lanes is a multiple of it.
inline constexpr size_t kQuantLanes = 8;

// One group of weights of each of a panel's columns.
struct QuantizeGroupArgs {
  const float* const* rows = nullptr;  // [num_rows], each at the group's first weight
  size_t num_rows = 0;                 // at most `columns`: the columns behind them stay zero
  size_t count = 0;                    // weights of each, 1 to kQuantGroup; absent ones are zeros
  size_t columns = 0;                  // a multiple of kQuantLanes
  Bf16* scales = nullptr;              // [columns]
  // [steps, columns, 4]. A step covers four inputs with int8; with int4 eight, the first four in
  // the low halves of the bytes.
  uint8_t* levels = nullptr;
};

// weight = scale * (level - bias), see quantize.h. The scale is the one with the least squared
// error of those tried: eight consecutive bf16 numbers from the one that takes the peak, the weight
// with the largest magnitude, to -128 (int8); ten around the one that takes it to -8, and two
// fitted to the levels found (int4).
//
// The same bits on every CPU that has AVX2 and FMA, which it needs. A group with a NaN or an
// infinity has the scale NaN and levels of any kind.
void QuantizeGroupToInt8(const QuantizeGroupArgs& args);
void QuantizeGroupToInt4(const QuantizeGroupArgs& args);

}  // namespace baton
