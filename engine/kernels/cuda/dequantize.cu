#include "common/check.h"
#include "engine/kernels/cuda/dequantize.h"
#include "engine/kernels/cuda/fp8.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/quantized_lane.h"

namespace baton {

namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kLaneInputs = 8;  // of a group

__device__ __forceinline__ uint32_t Scaled(uint32_t pair, float scale) {
  return PackBf16(scale * LowBf16(pair), scale * HighBf16(pair));
}

// Eight weights of the upper or the lower outputs of a group.
__device__ __forceinline__ uint4 ScaledHalf(const uint32_t (&pairs)[2][4], int half, float scale) {
  return make_uint4(Scaled(pairs[0][half], scale), Scaled(pairs[0][2 + half], scale),
                    Scaled(pairs[1][half], scale), Scaled(pairs[1][2 + half], scale));
}

// A warp takes a chunk. `weights`: from the first tile on.
template <WeightElement kElement>
__global__ void __launch_bounds__(kThreads)
    DequantizeChunks(const std::byte* weights, Bf16* output, int32_t outputs, int32_t k) {
  WaitForPreviousGrid();
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int chunk = static_cast<int>(blockIdx.x * kWarps + threadIdx.x / kWarpSize);
  const int chunks = NumQuantChunks(k);
  if (chunk >= chunks) return;
  const int64_t tile = blockIdx.y;
  QuantizedLane<kElement> levels;
  levels.Load(weights + (tile * chunks + chunk) * QuantChunkBytes(kElement), lane);
  const int64_t row = tile * kQuantTileOutputs + lane / 4;
#pragma unroll
  for (int group = 0; group < kQuantChunkGroups; ++group) {
    const int at = chunk * kQuantChunkInputs + group * kQuantGroup + lane % 4 * kLaneInputs;
    if (at >= k) break;
    uint32_t pairs[2][4];
    UnpackGroup(levels, group, pairs);
    const uint32_t scales = levels.Scales(group);
    if (row < outputs) {
      *reinterpret_cast<uint4*>(output + row * k + at) = ScaledHalf(pairs, 0, LowBf16(scales));
    }
    if (row + 8 < outputs) {
      *reinterpret_cast<uint4*>(output + (row + 8) * k + at) =
          ScaledHalf(pairs, 1, HighBf16(scales));
    }
  }
}

// A thread takes kCodes weights of one output.
constexpr int kCodes = 8;
__global__ void __launch_bounds__(kThreads)
    WidenE4m3(const uint8_t* codes, const float* scales, Bf16* output, int64_t count, int32_t k) {
  WaitForPreviousGrid();
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kCodes;
  if (at >= count) return;
  const uint2 packed = __ldg(reinterpret_cast<const uint2*>(codes + at));
  const float scale = scales[at / k];
  const auto pair = [&](uint32_t word, int shift) {
    return PackBf16(scale * FromE4m3(static_cast<uint8_t>(word >> shift)),
                    scale * FromE4m3(static_cast<uint8_t>(word >> (shift + 8))));
  };
  *reinterpret_cast<uint4*>(output + at) =
      make_uint4(pair(packed.x, 0), pair(packed.x, 16), pair(packed.y, 0), pair(packed.y, 16));
}

void DequantizeFp8(const CudaContext& context, const DequantizeArgs& args) {
  const CudaMatrix& matrix = *args.weights;
  const int64_t first = int64_t{args.begin} * matrix.k();
  const int64_t count = int64_t{args.end - args.begin} * matrix.k();
  constexpr int64_t kOfBlock = int64_t{kThreads} * kCodes;
  Launch(
      context, "dequantize_fp8",
      {.grid = dim3(static_cast<unsigned>((count + kOfBlock - 1) / kOfBlock)), .block = kThreads},
      WidenE4m3, reinterpret_cast<const uint8_t*>(matrix.packed().data()) + first,
      matrix.scales().data() + args.begin, args.output, count, matrix.k());
}

struct Table {
  const std::byte* weights;
  TokenId first_token;
  int32_t num_tokens;
  int32_t width;
};

// A thread takes eight numbers of a row.
template <WeightElement kElement>
__global__ void __launch_bounds__(kThreads)
    EmbedQuantized(Table table, const TokenId* tokens, float* output) {
  WaitForPreviousGrid();
  const int width = table.width;
  const int piece = static_cast<int>(blockIdx.y * kThreads + threadIdx.x);
  if (piece * kLaneInputs >= width) return;
  auto* to = reinterpret_cast<float4*>(output + int64_t{blockIdx.x} * width + piece * kLaneInputs);
  constexpr int kPieces = kQuantGroup / kLaneInputs;  // of a group
  const int token = tokens[blockIdx.x] - table.first_token;
  if (token < 0 || token >= table.num_tokens) {
    to[0] = to[1] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    return;
  }
  const int half = token % kQuantTileOutputs / 8;
  const int lane = token % 8 * 4 + piece % kPieces;
  const int group = piece / kPieces % kQuantChunkGroups;
  const int chunk = piece / (kPieces * kQuantChunkGroups);
  const int64_t tile = token / kQuantTileOutputs;
  QuantizedLane<kElement> levels;
  levels.Load(table.weights + (tile * NumQuantChunks(width) + chunk) * QuantChunkBytes(kElement),
              lane);
  uint32_t pairs[2][4];
  // Known when compiled, as the compiler can keep no array whose index is not in registers.
#pragma unroll
  for (int i = 0; i < kQuantChunkGroups; ++i) {
    if (i == group) UnpackGroup(levels, i, pairs);
  }
  const uint32_t scales = levels.Scales(group);
  const float scale = half == 0 ? LowBf16(scales) : HighBf16(scales);
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const uint32_t first = half == 0 ? pairs[j][0] : pairs[j][1];
    const uint32_t second = half == 0 ? pairs[j][2] : pairs[j][3];
    to[j] = make_float4(scale * LowBf16(first), scale * HighBf16(first), scale * LowBf16(second),
                        scale * HighBf16(second));
  }
}

}  // namespace

void Dequantize(const CudaContext& context, const DequantizeArgs& args) {
  const CudaMatrix& matrix = *args.weights;
  const WeightElement element = matrix.element();
  if (element == WeightElement::kFp8) return DequantizeFp8(context, args);
  BATON_CHECK(IsQuantized(element) && args.begin % kQuantTileOutputs == 0) << args.begin;
  const int32_t outputs = args.end - args.begin;
  const dim3 grid(static_cast<unsigned>((NumQuantChunks(matrix.k()) + kWarps - 1) / kWarps),
                  static_cast<unsigned>(NumQuantTiles(outputs)));
  Launch(
      context, "dequantize", {.grid = grid, .block = kThreads},
      element == WeightElement::kInt4 ? DequantizeChunks<WeightElement::kInt4>
                                      : DequantizeChunks<WeightElement::kInt8>,
      matrix.packed().data() + args.begin / kQuantTileOutputs * QuantTileBytes(element, matrix.k()),
      args.output, outputs, matrix.k());
}

void QuantizedEmbedding(const CudaContext& context, const QuantizedEmbeddingArgs& args) {
  if (args.rows == 0) return;
  const CudaMatrix& table = *args.table;
  BATON_CHECK(IsQuantized(table.element()));
  constexpr int32_t kOfBlock = kThreads * kLaneInputs;
  const dim3 grid(static_cast<unsigned>(args.rows),
                  static_cast<unsigned>((table.k() + kOfBlock - 1) / kOfBlock));
  Launch(context, "quantized_embedding", {.grid = grid, .block = kThreads},
         table.element() == WeightElement::kInt4 ? EmbedQuantized<WeightElement::kInt4>
                                                 : EmbedQuantized<WeightElement::kInt8>,
         Table{table.packed().data(), args.first_token, table.n(), table.k()}, args.tokens,
         args.output);
}

}  // namespace baton
