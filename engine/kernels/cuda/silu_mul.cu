#include "engine/kernels/cuda/silu_mul.h"

#include "engine/kernels/cuda/e4m3_rows.h"
#include "engine/kernels/cuda/gated.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/vectors.h"

namespace baton {

namespace {

constexpr int kThreads = 256;
constexpr int kRowThreads = 512;  // where a block has a row
constexpr int kNumbers = 8;       // results of one vector

// The results of twice as many numbers from `input` on, as bf16.
__device__ __forceinline__ uint4 GatedVector(const Bf16* input) {
  float first[kNumbers];
  float second[kNumbers];
  LoadBf16(input, first);
  LoadBf16(input + kNumbers, second);
  float results[kNumbers];
#pragma unroll
  for (int i = 0; i < kNumbers / 2; ++i) {
    results[i] = Gated(first[2 * i], first[2 * i + 1]);
    results[i + kNumbers / 2] = Gated(second[2 * i], second[2 * i + 1]);
  }
  return make_uint4(PackBf16(results[0], results[1]), PackBf16(results[2], results[3]),
                    PackBf16(results[4], results[5]), PackBf16(results[6], results[7]));
}

// Rows follow one another without gaps, so they are taken as one.
__global__ void __launch_bounds__(kThreads)
    SiluMulVectors(const Bf16* input, Bf16* output, int64_t count) {
  WaitForPreviousGrid();
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kNumbers;
  if (at >= count) return;
  *reinterpret_cast<uint4*>(output + at) = GatedVector(input + 2 * at);
}

__global__ void __launch_bounds__(kThreads)
    SiluMulNumbers(const Bf16* input, Bf16* output, int64_t count) {
  WaitForPreviousGrid();
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= count) return;
  output[at] = RoundToBf16(Gated(ToFloat(input[2 * at]), ToFloat(input[2 * at + 1])));
}

// One block a row. Its results stay in registers until its scale is known; what does not fit,
// beyond 32,768 numbers, is computed twice.
template <int kVectors>
__global__ void __launch_bounds__(kRowThreads)
    SiluMulRowToE4m3(CudaSiluMulArgs args, E4m3Rows rows) {
  WaitForPreviousGrid();
  const int64_t row = blockIdx.x;
  const int vectors = args.width / kNumbers;
  const int step = static_cast<int>(blockDim.x);
  const int first = static_cast<int>(threadIdx.x);
  const Bf16* input = args.input + 2 * row * args.width;
  auto* output = reinterpret_cast<uint2*>(rows.values + row * args.width);
  const auto gated = [&](int at) { return GatedVector(input + int64_t{2} * kNumbers * at); };
  uint4 results[kVectors];
  uint32_t peak = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = first + i * step;
    results[i] = at < vectors ? gated(at) : make_uint4(0, 0, 0, 0);
    peak = PeakOf(peak, results[i]);
  }
  const int rest = first + kVectors * step;
  for (int at = rest; at < vectors; at += step) peak = PeakOf(peak, gated(at));
  const float inverse = ScaleRow(peak, rows.scales + row);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = first + i * step;
    if (at < vectors) output[at] = EightE4m3(results[i], inverse);
  }
  for (int at = rest; at < vectors; at += step) output[at] = EightE4m3(gated(at), inverse);
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

void SiluMulToE4m3(const CudaContext& context, const CudaSiluMulArgs& args, const E4m3Rows& rows) {
  const int vectors = args.width / kNumbers;
  const int threads = vectors <= kRowThreads ? kRowThreads / 4 : kRowThreads;
  const int of_thread = (vectors + threads - 1) / threads;
  const auto run = [&](auto kernel) {
    Launch(context, "silu_mul_to_e4m3",
           {.grid = dim3(static_cast<unsigned>(args.rows)),
            .block = dim3(static_cast<unsigned>(threads))},
           kernel, args, rows);
  };
  if (of_thread <= 2) return run(SiluMulRowToE4m3<2>);
  if (of_thread <= 4) return run(SiluMulRowToE4m3<4>);
  run(SiluMulRowToE4m3<8>);
}

}  // namespace baton
