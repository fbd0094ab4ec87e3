// Random weights made where they are needed: see engine/kernels/random_numbers.h.
#pragma once

#include <cstdint>

#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/random_numbers.h"

namespace baton {

struct FillRandomArgs {
  Bf16* output = nullptr;  // device, aligned to 16 bytes; `columns` of each row are written
  int64_t row_stride = 0;  // numbers from one row to the next, a multiple of 8
  RandomTensor tensor;
  int64_t first_row = 0;  // of the tensor
  int64_t rows = 0;
  int64_t columns = 0;  // a multiple of 8, at most 2^25
};

// The numbers that the host makes, bit for bit. Floor: bandwidth, 2 bytes written a number.
void FillRandom(const CudaContext& context, const FillRandomArgs& args);

}  // namespace baton
