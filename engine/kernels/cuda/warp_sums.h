// Products that the warps of a block compute together: the inputs of k are cut into chunks, each
// warp sums over every eighth chunk in rising order, and the sums of the warps are added in the
// order of warps. So a number's bits depend neither on the other rows nor on how many there are.
// Weights are mma's A operand, 16 outputs, and rows are the columns of B, eight in a tile. Included
// by .cu files only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/gated.h"
#include "engine/kernels/cuda/linear.h"
#include "engine/kernels/cuda/ptx.h"

namespace baton {

inline constexpr int kSumWarps = 8;  // that share the inputs
inline constexpr int kSumThreads = kSumWarps * kWarpSize;
inline constexpr int kOutputsOfTile = 16;  // rows of an mma
inline constexpr int kRowsOfTile = 8;      // columns of an mma
inline constexpr int kLaneInputs = 8;      // of a group of 32: those from lane % 4 * 8 on

struct ProductArgs {
  const Bf16* input;  // [rows, k]
  const float* bias;  // [n], or null
  void* output;       // see CudaEpilogue
  int32_t rows;
  int32_t n;
  int32_t k;
  CudaEpilogue epilogue;
};

// All but the weights, whose layout is the kernel's.
inline ProductArgs ProductArgsOf(const CudaLinearArgs& args) {
  return {.input = args.input,
          .bias = args.weights->bias(),
          .output = args.output,
          .rows = args.rows,
          .n = args.weights->n(),
          .k = args.weights->k(),
          .epilogue = args.epilogue};
}

// What becomes of a pair of the product where it is gated; `gate`: the number of an even output.
__device__ __forceinline__ void FinishPair(const ProductArgs& args, int row, int output, float gate,
                                           float up) {
  if (args.bias != nullptr) {
    gate += args.bias[output];
    up += args.bias[output + 1];
  }
  const float gated = Gated(ToFloat(RoundToBf16(gate)), ToFloat(RoundToBf16(up)));
  const int64_t at = (int64_t{row} * args.n + output) / 2;
  static_cast<Bf16*>(args.output)[at] = RoundToBf16(gated);
}

// What becomes of one number of the product where it is not.
__device__ __forceinline__ void FinishProduct(const ProductArgs& args, int row, int output,
                                              float product) {
  if (args.bias != nullptr) product += args.bias[output];
  const int64_t at = int64_t{row} * args.n + output;
  auto* f32 = static_cast<float*>(args.output);
  switch (args.epilogue) {
    case CudaEpilogue::kStoreBf16:
      static_cast<Bf16*>(args.output)[at] = RoundToBf16(product);
      return;
    case CudaEpilogue::kStoreF32:
      f32[at] = product;
      return;
    case CudaEpilogue::kAddToF32:
      f32[at] += product;
      return;
    case CudaEpilogue::kSiluMul:
      return;  // see FinishPair
  }
}

// What a lane needs of the input for a group that begins at input `begin`; zeros where there is
// none.
template <int kRowTiles>
__device__ __forceinline__ void LoadInput(const ProductArgs& args, int first_row, int begin,
                                          uint4 (&input)[kRowTiles]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int at = begin + lane % 4 * kLaneInputs;
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
    const int row = first_row + i * kRowsOfTile + lane / 4;
    input[i] = make_uint4(0, 0, 0, 0);
    if (row < args.rows && at < args.k) {
      // Not __ldg: the kernel may have started before this was written.
      input[i] = __ldca(reinterpret_cast<const uint4*>(args.input + int64_t{row} * args.k + at));
    }
  }
}

// Sums of a block's warps in shared memory: [kSumWarps, rows, outputs + kPaddedSums] f32.
template <int kTiles, int kRowTiles>
class WarpSums {
 public:
  static constexpr int kOutputs = kTiles * kOutputsOfTile;
  static constexpr int kRows = kRowTiles * kRowsOfTile;
  // Behind each row's: lanes that store together meet no bank twice.
  static constexpr int kPaddedSums = 4;
  static constexpr int kStride = kOutputs + kPaddedSums;
  static constexpr size_t kBytes = sizeof(float) * kSumWarps * kRows * kStride;

  __device__ __forceinline__ explicit WarpSums(float* sums) : sums_(sums) {}

  // The calling warp's, as mma leaves them.
  __device__ __forceinline__ void Store(const float (&totals)[kTiles][kRowTiles][4]) const {
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int row = i * kRowsOfTile + lane % 4 * 2 + j % 2;
          const int output = tile * kOutputsOfTile + lane / 4 + j / 2 * 8;
          sums_[At(warp, row, output)] = totals[tile][i][j];
        }
      }
    }
  }

  // Adds those of all warps and finishes the product's numbers from that row and output on. By all
  // threads of the block, behind a barrier.
  __device__ __forceinline__ void Finish(const ProductArgs& args, int first_row,
                                         int first_output) const {
    if (args.epilogue == CudaEpilogue::kSiluMul) return FinishPairs(args, first_row, first_output);
    for (int at = static_cast<int>(threadIdx.x); at < kRows * kOutputs; at += kSumThreads) {
      const int row = at / kOutputs;
      const int output = at % kOutputs;
      const float product = OfAllWarps(row, output);
      if (first_row + row < args.rows && first_output + output < args.n) {
        FinishProduct(args, first_row + row, first_output + output, product);
      }
    }
  }

 private:
  __device__ __forceinline__ void FinishPairs(const ProductArgs& args, int first_row,
                                              int first_output) const {
    constexpr int kPairs = kOutputs / 2;
    for (int at = static_cast<int>(threadIdx.x); at < kRows * kPairs; at += kSumThreads) {
      const int row = at / kPairs;
      const int output = at % kPairs * 2;
      const float gate = OfAllWarps(row, output);
      const float up = OfAllWarps(row, output + 1);
      if (first_row + row < args.rows && first_output + output < args.n) {
        FinishPair(args, first_row + row, first_output + output, gate, up);
      }
    }
  }
  __device__ __forceinline__ float OfAllWarps(int row, int output) const {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kSumWarps; ++i) sum += sums_[At(i, row, output)];
    return sum;
  }
  __device__ __forceinline__ static int At(int warp, int row, int output) {
    return (warp * kRows + row) * kStride + output;
  }

  float* sums_;
};

}  // namespace baton
