#include "engine/kernels/cuda/rms_norm.h"

#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/vectors.h"

namespace baton {

namespace {

constexpr int kNumbers = 4;  // of one vector
constexpr int kMaxWarps = 32;

// Over the block; every thread gets it. Called once by a kernel.
__device__ __forceinline__ float BlockSum(float value) {
  __shared__ float sums[kMaxWarps];
  const int thread = static_cast<int>(threadIdx.x);
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  value = WarpSum(value);
  if (thread % kWarpSize == 0) sums[thread / kWarpSize] = value;
  __syncthreads();
  const int lane = thread % kWarpSize;
  return WarpSum(lane < warps ? sums[lane] : 0.0f);
}

__device__ __forceinline__ float InverseRms(float squares, int32_t width, float epsilon) {
  return 1.0f / sqrtf(squares / static_cast<float>(width) + epsilon);
}

// One block a row; the row stays in registers between its two uses.
template <int kVectors>
__global__ void __launch_bounds__(1024) RmsNormVectors(RmsNormArgs args) {
  const int64_t row = int64_t{blockIdx.x} * args.width;
  const auto* input = reinterpret_cast<const float4*>(args.input + row);
  const auto* weight = reinterpret_cast<const float4*>(args.weight);
  auto* output = reinterpret_cast<uint2*>(static_cast<Bf16*>(args.output) + row);
  const int vectors = args.width / kNumbers;
  float4 values[kVectors];
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = static_cast<int>(i * blockDim.x + threadIdx.x);
    values[i] = at < vectors ? input[at] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    squares += values[i].x * values[i].x + values[i].y * values[i].y + values[i].z * values[i].z +
               values[i].w * values[i].w;
  }
  const float factor = InverseRms(BlockSum(squares), args.width, args.epsilon);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = static_cast<int>(i * blockDim.x + threadIdx.x);
    if (at >= vectors) continue;
    const float4 scale = __ldg(weight + at);
    output[at] =
        make_uint2(PackBf16(values[i].x * factor * scale.x, values[i].y * factor * scale.y),
                   PackBf16(values[i].z * factor * scale.z, values[i].w * factor * scale.w));
  }
}

__global__ void __launch_bounds__(1024) RmsNormNumbers(RmsNormArgs args) {
  const int64_t row = int64_t{blockIdx.x} * args.width;
  const float* input = args.input + row;
  Bf16* output = static_cast<Bf16*>(args.output) + row;
  const int first = static_cast<int>(threadIdx.x);
  const int step = static_cast<int>(blockDim.x);
  float squares = 0.0f;
  for (int i = first; i < args.width; i += step) squares += input[i] * input[i];
  const float factor = InverseRms(BlockSum(squares), args.width, args.epsilon);
  for (int i = first; i < args.width; i += step) {
    output[i] = RoundToBf16(input[i] * factor * args.weight[i]);
  }
}

}  // namespace

void RmsNorm(const CudaContext& context, const RmsNormArgs& args) {
  const bool aligned =
      args.width % kNumbers == 0 &&
      AlignedForVectors(args.input, args.weight, static_cast<const Bf16*>(args.output));
  const int vectors = args.width / kNumbers;
  const int threads = vectors <= 1024 ? 128 : vectors <= 2048 ? 256 : 1024;
  const auto run = [&](auto kernel) {
    Launch(context, "rms_norm",
           {.grid = dim3(static_cast<unsigned>(args.rows)),
            .block = dim3(static_cast<unsigned>(threads))},
           kernel, args);
  };
  const int of_thread = (vectors + threads - 1) / threads;
  if (!aligned || of_thread > 8) return run(RmsNormNumbers);
  if (of_thread <= 1) return run(RmsNormVectors<1>);
  if (of_thread <= 2) return run(RmsNormVectors<2>);
  if (of_thread <= 4) return run(RmsNormVectors<4>);
  run(RmsNormVectors<8>);
}

}  // namespace baton
