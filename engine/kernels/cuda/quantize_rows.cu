#include "engine/kernels/cuda/fp8.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/quantize_rows.h"
#include "engine/kernels/cuda/vectors.h"

namespace baton {

namespace {

constexpr int kThreads = 256;
constexpr int kNumbers = 8;  // of one vector

__device__ __forceinline__ uint32_t WarpMaxBits(uint32_t bits) {
#pragma unroll
  for (int lane = kWarpSize / 2; lane > 0; lane /= 2) {
    bits = max(bits, __shfl_xor_sync(kFullWarp, bits, lane));
  }
  return bits;
}

// Over the block; every thread gets it. Called once by a kernel.
__device__ __forceinline__ uint32_t BlockMaxBits(uint32_t bits) {
  __shared__ uint32_t peaks[kThreads / kWarpSize];
  const int thread = static_cast<int>(threadIdx.x);
  bits = WarpMaxBits(bits);
  if (thread % kWarpSize == 0) peaks[thread / kWarpSize] = bits;
  __syncthreads();
  const int lane = thread % kWarpSize;
  return WarpMaxBits(lane < kThreads / kWarpSize ? peaks[lane] : 0u);
}

__device__ __forceinline__ uint32_t FourE4m3(const float* values, float inverse) {
  uint32_t packed = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) packed |= uint32_t{ToE4m3(values[i] * inverse)} << (8 * i);
  return packed;
}

// One block a row, which is read twice: the second time from a cache. Magnitudes are compared as
// bits: infinities and NaNs are the largest.
__global__ void __launch_bounds__(kThreads) QuantizeRow(QuantizeRowsArgs args) {
  const int64_t row = blockIdx.x;
  const Bf16* input = args.input + row * args.width;
  const int first = static_cast<int>(threadIdx.x) * kNumbers;
  uint32_t peak = 0;
  for (int at = first; at < args.width; at += kThreads * kNumbers) {
    float values[kNumbers];
    LoadBf16(input + at, values);
#pragma unroll
    for (const float value : values) peak = max(peak, __float_as_uint(value) & 0x7fffffffu);
  }
  const E4m3Scale scale = E4m3ScaleOf(BlockMaxBits(peak));
  if (threadIdx.x == 0) args.scales[row] = scale.scale;
  for (int at = first; at < args.width; at += kThreads * kNumbers) {
    float values[kNumbers];
    LoadBf16(input + at, values);
    *reinterpret_cast<uint2*>(args.output + row * args.width + at) =
        make_uint2(FourE4m3(values, scale.inverse), FourE4m3(values + 4, scale.inverse));
  }
}

}  // namespace

void QuantizeRows(const CudaContext& context, const QuantizeRowsArgs& args) {
  Launch(context, "quantize_rows",
         {.grid = dim3(static_cast<unsigned>(args.rows)), .block = kThreads}, QuantizeRow, args);
}

}  // namespace baton
