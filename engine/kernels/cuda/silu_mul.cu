#include "engine/kernels/cuda/silu_mul.h"

#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/vectors.h"

namespace baton {

namespace {

constexpr int kThreads = 256;
constexpr int kNumbers = 8;  // results of one thread in the vector kernel

__device__ __forceinline__ float Gated(float gate, float up) {
  return __fdividef(gate, 1.0f + __expf(-gate)) * up;
}

// Rows follow one another without gaps, so they are taken as one.
__global__ void __launch_bounds__(kThreads)
    SiluMulVectors(const Bf16* input, Bf16* output, int64_t count) {
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kNumbers;
  if (at >= count) return;
  float first[kNumbers];
  float second[kNumbers];
  LoadBf16(input + 2 * at, first);
  LoadBf16(input + 2 * at + kNumbers, second);
  float results[kNumbers];
#pragma unroll
  for (int i = 0; i < kNumbers / 2; ++i) {
    results[i] = Gated(first[2 * i], first[2 * i + 1]);
    results[i + kNumbers / 2] = Gated(second[2 * i], second[2 * i + 1]);
  }
  StoreBf16(results, output + at);
}

__global__ void __launch_bounds__(kThreads)
    SiluMulNumbers(const Bf16* input, Bf16* output, int64_t count) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= count) return;
  output[at] = RoundToBf16(Gated(ToFloat(input[2 * at]), ToFloat(input[2 * at + 1])));
}

}  // namespace

void SiluMul(const CudaContext& context, const CudaSiluMulArgs& args) {
  const int64_t count = int64_t{args.rows} * args.width;
  const bool vectors = count % kNumbers == 0 && AlignedForVectors(args.input, args.output);
  const int64_t numbers_of_block = kThreads * (vectors ? kNumbers : 1);
  const auto blocks = static_cast<unsigned>((count + numbers_of_block - 1) / numbers_of_block);
  Launch(context, "silu_mul", {.grid = dim3(blocks), .block = kThreads},
         vectors ? SiluMulVectors : SiluMulNumbers, args.input, args.output, count);
}

}  // namespace baton
