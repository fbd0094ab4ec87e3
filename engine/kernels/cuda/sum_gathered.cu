#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/sum_gathered.h"
#include "engine/kernels/cuda/vectors.h"

namespace baton {

namespace {

constexpr int kThreads = 256;
constexpr int kNumbers = 4;  // of one vector

__global__ void __launch_bounds__(kThreads) SumVectors(SumGatheredArgs args) {
  WaitForPreviousGrid();
  const size_t at = size_t{blockIdx.x} * kThreads + threadIdx.x;
  const size_t vectors = args.count / kNumbers;
  if (at >= vectors) return;
  const auto* parts = reinterpret_cast<const float4*>(args.parts);
  float4 sum = parts[at];
  for (int part = 1; part < args.num_parts; ++part) {
    const float4 next = parts[static_cast<size_t>(part) * vectors + at];
    sum = make_float4(sum.x + next.x, sum.y + next.y, sum.z + next.z, sum.w + next.w);
  }
  reinterpret_cast<float4*>(args.output)[at] = sum;
}

__global__ void __launch_bounds__(kThreads) SumNumbers(SumGatheredArgs args) {
  WaitForPreviousGrid();
  const size_t at = size_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= args.count) return;
  float sum = args.parts[at];
  for (int part = 1; part < args.num_parts; ++part) {
    sum += args.parts[static_cast<size_t>(part) * args.count + at];
  }
  args.output[at] = sum;
}

}  // namespace

void SumGathered(const CudaContext& context, const SumGatheredArgs& args) {
  const bool vectors = args.count % kNumbers == 0 && AlignedForVectors(args.parts, args.output);
  const size_t of_block = size_t{kThreads} * (vectors ? kNumbers : 1);
  const auto blocks = static_cast<unsigned>((args.count + of_block - 1) / of_block);
  Launch(context, "sum_gathered", {.grid = dim3(blocks), .block = kThreads},
         vectors ? SumVectors : SumNumbers, args);
}

}  // namespace baton
