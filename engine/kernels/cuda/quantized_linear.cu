#include "common/check.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/quantized_lane.h"
#include "engine/kernels/cuda/quantized_linear.h"
#include "engine/kernels/cuda/warp_sums.h"

namespace baton {

namespace {

// Adds a group's products, times their scales, to the totals.
template <int kRowTiles>
__device__ __forceinline__ void AddGroup(const uint32_t (&weights)[2][4], uint32_t scales,
                                         const uint4 (&input)[kRowTiles],
                                         float (&totals)[kRowTiles][4]) {
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    const uint32_t first[2] = {input[i].x, input[i].y};
    const uint32_t second[2] = {input[i].z, input[i].w};
    MmaBf16(sums, weights[0], first);
    MmaBf16(sums, weights[1], second);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float scale = j < 2 ? LowBf16(scales) : HighBf16(scales);
      totals[i][j] = __fmaf_rn(scale, sums[j], totals[i][j]);
    }
  }
}

// A block computes kTiles tiles of outputs for kRowTiles * 8 rows; its warps share the inputs. The
// next chunk's weights are under way while one is multiplied.
template <WeightElement kElement, int kTiles, int kRowTiles>
__global__ void __launch_bounds__(kSumThreads)
    QuantizedProduct(ProductArgs args, const std::byte* matrix) {
  using Sums = WarpSums<kTiles, kRowTiles>;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int first_row = static_cast<int>(blockIdx.x) * Sums::kRows;
  const int first_tile = static_cast<int>(blockIdx.y) * kTiles;
  const int last_tile = NumQuantTiles(args.n) - 1;
  const int chunks = NumQuantChunks(args.k);
  QuantizedLane<kElement> next[kTiles];
  const auto load = [&](int chunk) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {  // behind the last tile: it again, not to be stored
      const int64_t tile = min(first_tile + i, last_tile);
      next[i].Load(matrix + (tile * chunks + chunk) * QuantChunkBytes(kElement), lane);
    }
  };
  float totals[kTiles][kRowTiles][4] = {};
  if (warp < chunks) load(warp);
  WaitForPreviousGrid();  // weights do not change meanwhile
  for (int chunk = warp; chunk < chunks; chunk += kSumWarps) {
    QuantizedLane<kElement> weights[kTiles];
#pragma unroll
    for (int i = 0; i < kTiles; ++i) weights[i] = next[i];
    if (chunk + kSumWarps < chunks) load(chunk + kSumWarps);
#pragma unroll
    for (int group = 0; group < kQuantChunkGroups; ++group) {
      uint4 input[kRowTiles];
      LoadInput(args, first_row, chunk * kQuantChunkInputs + group * kQuantGroup, input);
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        uint32_t pairs[2][4];
        UnpackGroup(weights[i], group, pairs);
        AddGroup(pairs, weights[i].Scales(group), input, totals[i]);
      }
    }
  }
  const Sums sums(DynamicShared<float>());
  sums.Store(totals);
  __syncthreads();
  sums.Finish(args, first_row, first_tile * kQuantTileOutputs);
}

template <WeightElement kElement, int kTiles, int kRowTiles>
void Start(const CudaContext& context, const ProductArgs& args, const std::byte* weights) {
  using Sums = WarpSums<kTiles, kRowTiles>;
  const int32_t tiles = NumQuantTiles(args.n);
  // Blocks of the same weights start together, so that memory gives them once.
  const dim3 grid(static_cast<unsigned>((args.rows + Sums::kRows - 1) / Sums::kRows),
                  static_cast<unsigned>((tiles + kTiles - 1) / kTiles));
  Launch(context, "quantized_linear",
         {.grid = grid, .block = kSumThreads, .shared_bytes = Sums::kBytes},
         QuantizedProduct<kElement, kTiles, kRowTiles>, args, weights);
}

template <WeightElement kElement>
void StartFor(const CudaContext& context, const ProductArgs& args, const std::byte* weights) {
  if (args.rows <= 8) return Start<kElement, 1, 1>(context, args, weights);
  if (args.rows <= 16) return Start<kElement, 2, 2>(context, args, weights);
  Start<kElement, 2, 4>(context, args, weights);
}

}  // namespace

void QuantizedLinear(const CudaContext& context, const CudaLinearArgs& args) {
  const CudaMatrix& matrix = *args.weights;
  BATON_CHECK(IsQuantized(matrix.element()));
  const ProductArgs of_kernel = ProductArgsOf(args);
  if (matrix.element() == WeightElement::kInt4) {
    StartFor<WeightElement::kInt4>(context, of_kernel, matrix.packed().data());
  } else {
    StartFor<WeightElement::kInt8>(context, of_kernel, matrix.packed().data());
  }
}

}  // namespace baton
