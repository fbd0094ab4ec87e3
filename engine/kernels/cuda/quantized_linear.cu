#include "common/check.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/quantized_lane.h"
#include "engine/kernels/cuda/quantized_linear.h"

namespace baton {

namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kRowsOfTile = 8;  // columns of an mma
constexpr int kPaddedSums = 4;  // behind each row's: lanes that store together meet no bank twice
constexpr int kLaneInputs = 8;  // of a group

struct Args {
  const Bf16* input;  // [rows, k]
  const std::byte* weights;
  const float* bias;  // [n], or null
  void* output;       // [rows, n]
  int32_t rows;
  int32_t n;
  int32_t k;
  CudaEpilogue epilogue;
};

// Sums of a block's warps: [kWarps, rows, outputs + kPaddedSums] f32.
template <int kTiles, int kRowTiles>
struct Sums {
  static constexpr int kOutputs = kTiles * kQuantTileOutputs;
  static constexpr int kRows = kRowTiles * kRowsOfTile;
  static constexpr int kStride = kOutputs + kPaddedSums;
  static constexpr size_t kBytes = sizeof(float) * kWarps * kRows * kStride;
  __device__ __forceinline__ static int At(int warp, int row, int output) {
    return (warp * kRows + row) * kStride + output;
  }
};

// What a lane needs of the input for a group that begins at input `begin`; zeros where there is
// none.
template <int kRowTiles>
__device__ __forceinline__ void LoadInput(const Args& args, int first_row, int begin,
                                          uint4 (&input)[kRowTiles]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int at = begin + lane % 4 * kLaneInputs;
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
    const int row = first_row + i * kRowsOfTile + lane / 4;
    input[i] = make_uint4(0, 0, 0, 0);
    if (row < args.rows && at < args.k) {
      input[i] = __ldg(reinterpret_cast<const uint4*>(args.input + int64_t{row} * args.k + at));
    }
  }
}

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

template <int kTiles, int kRowTiles>
__device__ __forceinline__ void StoreSums(const float (&totals)[kTiles][kRowTiles][4],
                                          float* sums) {
  using Layout = Sums<kTiles, kRowTiles>;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int row = i * kRowsOfTile + lane % 4 * 2 + j % 2;
        const int output = tile * kQuantTileOutputs + lane / 4 + j / 2 * 8;
        sums[Layout::At(warp, row, output)] = totals[tile][i][j];
      }
    }
  }
}

__device__ __forceinline__ void Finish(const Args& args, int row, int output, float product) {
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
  }
}

// A block computes kTiles tiles of outputs for kRowTiles * 8 rows; its warps share the inputs. The
// next chunk's weights are under way while one is multiplied.
template <WeightElement kElement, int kTiles, int kRowTiles>
__global__ void __launch_bounds__(kThreads) QuantizedProduct(Args args) {
  using Layout = Sums<kTiles, kRowTiles>;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int first_row = static_cast<int>(blockIdx.x) * Layout::kRows;
  const int first_tile = static_cast<int>(blockIdx.y) * kTiles;
  const int last_tile = NumQuantTiles(args.n) - 1;
  const int chunks = NumQuantChunks(args.k);
  QuantizedLane<kElement> next[kTiles];
  const auto load = [&](int chunk) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {  // behind the last tile: it again, not to be stored
      const int64_t tile = min(first_tile + i, last_tile);
      next[i].Load(args.weights + (tile * chunks + chunk) * QuantChunkBytes(kElement), lane);
    }
  };
  float totals[kTiles][kRowTiles][4] = {};
  if (warp < chunks) load(warp);
  for (int chunk = warp; chunk < chunks; chunk += kWarps) {
    QuantizedLane<kElement> weights[kTiles];
#pragma unroll
    for (int i = 0; i < kTiles; ++i) weights[i] = next[i];
    if (chunk + kWarps < chunks) load(chunk + kWarps);
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
  auto* sums = DynamicShared<float>();
  StoreSums(totals, sums);
  __syncthreads();
  for (int at = static_cast<int>(threadIdx.x); at < Layout::kRows * Layout::kOutputs;
       at += kThreads) {
    const int row = at / Layout::kOutputs;
    const int output = at % Layout::kOutputs;
    float product = 0.0f;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) product += sums[Layout::At(i, row, output)];
    const int output_of_all = first_tile * kQuantTileOutputs + output;
    if (first_row + row < args.rows && output_of_all < args.n) {
      Finish(args, first_row + row, output_of_all, product);
    }
  }
}

template <WeightElement kElement, int kTiles, int kRowTiles>
void Start(const CudaContext& context, const Args& args) {
  using Layout = Sums<kTiles, kRowTiles>;
  const int32_t tiles = NumQuantTiles(args.n);
  // Blocks of the same weights start together, so that memory gives them once.
  const dim3 grid(static_cast<unsigned>((args.rows + Layout::kRows - 1) / Layout::kRows),
                  static_cast<unsigned>((tiles + kTiles - 1) / kTiles));
  Launch(context, "quantized_linear",
         {.grid = grid, .block = kThreads, .shared_bytes = Layout::kBytes},
         QuantizedProduct<kElement, kTiles, kRowTiles>, args);
}

template <WeightElement kElement>
void StartFor(const CudaContext& context, const Args& args) {
  if (args.rows <= 8) return Start<kElement, 1, 1>(context, args);
  if (args.rows <= 16) return Start<kElement, 2, 2>(context, args);
  Start<kElement, 2, 4>(context, args);
}

}  // namespace

void QuantizedLinear(const CudaContext& context, const CudaLinearArgs& args) {
  const CudaMatrix& matrix = *args.weights;
  BATON_CHECK(IsQuantized(matrix.element()) && args.rows <= kMaxQuantizedRows) << args.rows;
  const Args of_kernel = {.input = args.input,
                          .weights = matrix.packed().data(),
                          .bias = matrix.bias(),
                          .output = args.output,
                          .rows = args.rows,
                          .n = matrix.n(),
                          .k = matrix.k(),
                          .epilogue = args.epilogue};
  if (matrix.element() == WeightElement::kInt4) {
    StartFor<WeightElement::kInt4>(context, of_kernel);
  } else {
    StartFor<WeightElement::kInt8>(context, of_kernel);
  }
}

}  // namespace baton
