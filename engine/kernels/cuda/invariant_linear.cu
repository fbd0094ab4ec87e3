// Which kernel, and that of few rows: see invariant_linear.h.
#include "engine/kernels/cuda/invariant_linear.h"

#include <algorithm>

#include "common/check.h"
#include "engine/kernels/cuda/invariant_kernels.h"
#include "engine/kernels/cuda/launch.h"

namespace baton {

namespace {

constexpr int32_t kSideOfLargeTile = 128;

// A lane's weights of a chunk, of kTiles times 16 outputs; zeros where there are no inputs.
template <int kTiles>
struct LaneWeights {
  uint4 upper[kTiles][kChunkGroups];  // of output lane / 4 of 16
  uint4 lower[kTiles][kChunkGroups];  // of output lane / 4 + 8

  __device__ __forceinline__ static uint4 LoadGroup(const ProductArgs& args, const Bf16* weights,
                                                    int output, int at) {
    if (at >= args.k) return make_uint4(0, 0, 0, 0);
    // Behind the last output: it again, not to be stored.
    const int64_t row = min(output, args.n - 1);
    return __ldcs(reinterpret_cast<const uint4*>(weights + row * args.k + at));
  }
  __device__ __forceinline__ void Load(const ProductArgs& args, const Bf16* weights,
                                       int first_output, int chunk) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const int at = chunk * kChunkInputs + lane % 4 * kLaneInputs;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const int output = first_output + i * kOutputsOfTile + lane / 4;
#pragma unroll
      for (int group = 0; group < kChunkGroups; ++group) {
        const int begin = at + group * kGroupInputs;
        upper[i][group] = LoadGroup(args, weights, output, begin);
        lower[i][group] = LoadGroup(args, weights, output + 8, begin);
      }
    }
  }
};

// A block computes kTiles * 16 outputs for kRowTiles * 8 rows; its warps share the inputs. The next
// chunk's weights are under way while one is multiplied.
template <int kTiles, int kRowTiles>
__global__ void __launch_bounds__(kSumThreads)
    FewRowsProduct(ProductArgs args, const Bf16* weights) {
  using Sums = WarpSums<kTiles, kRowTiles>;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int first_row = static_cast<int>(blockIdx.y) * Sums::kRows;
  const int first_output = static_cast<int>(blockIdx.x) * Sums::kOutputs;
  const int chunks = NumChunks(args.k);
  LaneWeights<kTiles> next;
  float totals[kTiles][kRowTiles][4] = {};
  if (warp < chunks) next.Load(args, weights, first_output, warp);
  WaitForPreviousGrid();  // weights do not change meanwhile
  for (int chunk = warp; chunk < chunks; chunk += kSumWarps) {
    const LaneWeights<kTiles> own = next;
    if (chunk + kSumWarps < chunks) next.Load(args, weights, first_output, chunk + kSumWarps);
#pragma unroll
    for (int group = 0; group < kChunkGroups; ++group) {
      uint4 input[kRowTiles];
      LoadInput(args, first_row, chunk * kChunkInputs + group * kGroupInputs, input);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
          AddGroup(own.upper[tile][group], own.lower[tile][group], input[i], totals[tile][i]);
        }
      }
    }
  }
  const Sums sums(DynamicShared<float>());
  sums.Store(totals);
  __syncthreads();
  sums.Finish(args, first_row, first_output);
}

template <int kTiles, int kRowTiles>
void Start(const CudaContext& context, const ProductArgs& args, const Bf16* weights) {
  using Sums = WarpSums<kTiles, kRowTiles>;
  // Outputs in x: products of the default mode, which come here too, may have more than y can take.
  const dim3 grid(static_cast<unsigned>((args.n + Sums::kOutputs - 1) / Sums::kOutputs),
                  static_cast<unsigned>((args.rows + Sums::kRows - 1) / Sums::kRows));
  Launch(context, "invariant_linear",
         {.grid = grid, .block = kSumThreads, .shared_bytes = Sums::kBytes},
         FewRowsProduct<kTiles, kRowTiles>, args, weights);
}

}  // namespace

void MultiplyFewRows(const CudaContext& context, const ProductArgs& args, const Bf16* weights) {
  if (args.rows <= 8) return Start<1, 1>(context, args, weights);
  if (args.rows <= 16) return Start<2, 2>(context, args, weights);
  Start<2, 4>(context, args, weights);
}

InvariantKernel InvariantKernelFor(const CudaDeviceInfo& device, int32_t rows, int32_t n) {
  if (rows <= kMaxFewRows) return InvariantKernel::kFewRows;
  const auto tiles = [](int32_t size) {
    return int64_t{(size + kSideOfLargeTile - 1) / kSideOfLargeTile};
  };
  return tiles(rows) * tiles(n) < device.multiprocessors ? InvariantKernel::kSmallTiles
                                                         : InvariantKernel::kLargeTiles;
}

void InvariantLinear(const CudaContext& context, const CudaLinearArgs& args) {
  InvariantLinearBy(context, InvariantKernelFor(context.info(), args.rows, args.weights->n()),
                    args);
}

void InvariantLinearBy(const CudaContext& context, InvariantKernel kernel,
                       const CudaLinearArgs& args) {
  const CudaMatrix& matrix = *args.weights;
  BATON_CHECK(matrix.element() == WeightElement::kBf16);
  const ProductArgs of_kernel = ProductArgsOf(args);
  const Bf16* weights = matrix.weights().data();
  switch (kernel) {
    case InvariantKernel::kFewRows:
      return MultiplyFewRows(context, of_kernel, weights);
    case InvariantKernel::kSmallTiles:
      return MultiplySmallTiles(context, of_kernel, weights);
    case InvariantKernel::kLargeTiles:
      return MultiplyLargeTiles(context, of_kernel, weights);
  }
}

}  // namespace baton
