#include "engine/kernels/cuda/fill_random.h"

#include <algorithm>

#include "common/check.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/vectors.h"

namespace baton {

namespace {

constexpr int kThreads = 128;
constexpr int kNumbers = 8;  // of one thread: 16 bytes

__device__ __forceinline__ uint32_t PairOf(const RandomTensor& tensor, uint64_t bits, int first) {
  return RandomNumber(tensor, bits, first).bits |
         (uint32_t{RandomNumber(tensor, bits, first + 1).bits} << 16);
}

__global__ void __launch_bounds__(kThreads) FillRandomKernel(FillRandomArgs args) {
  WaitForPreviousGrid();
  const int64_t column = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * kNumbers;
  if (column >= args.columns) return;
  const int64_t row = blockIdx.x;
  const uint64_t row_seed = RandomRowSeed(args.tensor, args.first_row + row);
  const uint64_t low = RandomBits(row_seed, column);
  const uint64_t high = RandomBits(row_seed, column + kNumbersPerHash);
  *reinterpret_cast<uint4*>(args.output + row * args.row_stride + column) =
      make_uint4(PairOf(args.tensor, low, 0), PairOf(args.tensor, low, 2),
                 PairOf(args.tensor, high, 0), PairOf(args.tensor, high, 2));
}

}  // namespace

void FillRandom(const CudaContext& context, const FillRandomArgs& args) {
  BATON_CHECK(args.columns % kNumbers == 0 && args.row_stride % kNumbers == 0)
      << args.columns << args.row_stride;
  constexpr int64_t kNumbersOfBlock = int64_t{kThreads} * kNumbers;
  Launch(
      context, "fill random",
      {.grid = dim3(static_cast<unsigned>(args.rows),
                    static_cast<unsigned>((args.columns + kNumbersOfBlock - 1) / kNumbersOfBlock)),
       .block = kThreads},
      FillRandomKernel, args);
}

}  // namespace baton
