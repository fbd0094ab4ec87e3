#include "engine/kernels/cuda/rms_norm.h"

#include "engine/kernels/cuda/e4m3_rows.h"
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

// Weights are read before the sum is known, where registers hold them beside the row: a step of few
// rows would wait for memory a second time, which has them and not the caches, as all weights of
// the model are read in between.
constexpr bool ReadsWeightsFirst(int vectors, int threads) { return vectors * threads <= 4096; }

// Norms the block's row, which stays in registers between its two uses. `take` gets its vectors as
// bf16: the calling thread's i-th, which is the row's at-th. Waits for the grid before.
template <int kVectors, int kThreads, typename Take>
__device__ __forceinline__ void NormVectors(const RmsNormArgs& args, Take take) {
  constexpr bool kWeightsFirst = ReadsWeightsFirst(kVectors, kThreads);
  const int64_t row = int64_t{blockIdx.x} * args.width;
  const auto* input = reinterpret_cast<const float4*>(args.input + row);
  const auto* weight = reinterpret_cast<const float4*>(args.weight);
  const int vectors = args.width / kNumbers;
  float4 weights[kWeightsFirst ? kVectors : 1];
  if constexpr (kWeightsFirst) {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      const int at = static_cast<int>(i * kThreads + threadIdx.x);
      if (at < vectors) weights[i] = __ldg(weight + at);
    }
  }
  WaitForPreviousGrid();  // weights do not change meanwhile
  float4 values[kVectors];
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = static_cast<int>(i * kThreads + threadIdx.x);
    values[i] = at < vectors ? input[at] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    squares += values[i].x * values[i].x + values[i].y * values[i].y + values[i].z * values[i].z +
               values[i].w * values[i].w;
  }
  const float factor = InverseRms(BlockSum(squares), args.width, args.epsilon);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = static_cast<int>(i * kThreads + threadIdx.x);
    if (at >= vectors) continue;
    const float4 scale = kWeightsFirst ? weights[i] : __ldg(weight + at);
    take(i, at,
         make_uint2(PackBf16(values[i].x * factor * scale.x, values[i].y * factor * scale.y),
                    PackBf16(values[i].z * factor * scale.z, values[i].w * factor * scale.w)));
  }
}

// One block a row, as all of these.
template <int kVectors, int kThreads>
__global__ void __launch_bounds__(kThreads) RmsNormVectors(RmsNormArgs args) {
  const int64_t row = int64_t{blockIdx.x} * args.width;
  auto* output = reinterpret_cast<uint2*>(static_cast<Bf16*>(args.output) + row);
  NormVectors<kVectors, kThreads>(args, [&](int, int at, uint2 normed) { output[at] = normed; });
}

template <int kVectors, int kThreads>
__global__ void __launch_bounds__(kThreads) RmsNormVectorsToE4m3(RmsNormArgs args, E4m3Rows rows) {
  auto* output = reinterpret_cast<uint32_t*>(rows.values + int64_t{blockIdx.x} * args.width);
  uint2 numbers[kVectors];
  uint32_t peak = 0;
  NormVectors<kVectors, kThreads>(args, [&](int i, int, uint2 normed) {
    numbers[i] = normed;
    peak = PeakOf(PeakOf(peak, normed.x), normed.y);
  });
  const float inverse = ScaleRow(peak, rows.scales + blockIdx.x);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = static_cast<int>(i * kThreads + threadIdx.x);
    if (at < args.width / kNumbers) output[at] = FourE4m3(numbers[i].x, numbers[i].y, inverse);
  }
}

// What the block's row is multiplied with.
__device__ __forceinline__ float FactorOfRow(const RmsNormArgs& args) {
  const float* input = args.input + int64_t{blockIdx.x} * args.width;
  const int step = static_cast<int>(blockDim.x);
  float squares = 0.0f;
  for (int i = static_cast<int>(threadIdx.x); i < args.width; i += step) {
    squares += input[i] * input[i];
  }
  return InverseRms(BlockSum(squares), args.width, args.epsilon);
}

__global__ void __launch_bounds__(1024) RmsNormNumbers(RmsNormArgs args) {
  WaitForPreviousGrid();
  const int64_t row = int64_t{blockIdx.x} * args.width;
  const float* input = args.input + row;
  Bf16* output = static_cast<Bf16*>(args.output) + row;
  const int step = static_cast<int>(blockDim.x);
  const float factor = FactorOfRow(args);
  for (int i = static_cast<int>(threadIdx.x); i < args.width; i += step) {
    output[i] = RoundToBf16(input[i] * factor * args.weight[i]);
  }
}

__global__ void __launch_bounds__(1024) RmsNormNumbersToE4m3(RmsNormArgs args, E4m3Rows rows) {
  WaitForPreviousGrid();
  const int64_t row = int64_t{blockIdx.x} * args.width;
  const float* input = args.input + row;
  const int first = static_cast<int>(threadIdx.x);
  const int step = static_cast<int>(blockDim.x);
  const float factor = FactorOfRow(args);
  const auto normed = [&](int i) { return RoundToBf16(input[i] * factor * args.weight[i]); };
  uint32_t peak = 0;
  for (int i = first; i < args.width; i += step) peak = PeakOf(peak, normed(i).bits);
  const float inverse = ScaleRow(peak, rows.scales + blockIdx.x);
  for (int i = first; i < args.width; i += step) {
    rows.values[row + i] = ToE4m3(ToFloat(normed(i)) * inverse);
  }
}

// Of a block, for the vectors of a row.
int ThreadsFor(int vectors) { return vectors <= 1024 ? 128 : vectors <= 2048 ? 256 : 1024; }

// Calls with how many vectors a thread has and how many threads a block, as constants. False: a
// row has more than any has.
template <typename Call>
bool WithVectors(int32_t width, const Call& call) {
  const int vectors = width / kNumbers;
  const int threads = ThreadsFor(vectors);
  const int of_thread = (vectors + threads - 1) / threads;
  if (of_thread > 8) return false;
  if (threads == 1024) {
    of_thread <= 4 ? call.template operator()<4, 1024>() : call.template operator()<8, 1024>();
  } else if (threads == 256) {
    call.template operator()<8, 256>();
  } else if (of_thread <= 2) {
    of_thread <= 1 ? call.template operator()<1, 128>() : call.template operator()<2, 128>();
  } else {
    of_thread <= 4 ? call.template operator()<4, 128>() : call.template operator()<8, 128>();
  }
  return true;
}

LaunchShape ShapeOf(const RmsNormArgs& args) {
  return {.grid = dim3(static_cast<unsigned>(args.rows)),
          .block = dim3(static_cast<unsigned>(ThreadsFor(args.width / kNumbers)))};
}

}  // namespace

void RmsNorm(const CudaContext& context, const RmsNormArgs& args) {
  const bool aligned =
      args.width % kNumbers == 0 &&
      AlignedForVectors(args.input, args.weight, static_cast<const Bf16*>(args.output));
  const auto run = [&](auto kernel) { Launch(context, "rms_norm", ShapeOf(args), kernel, args); };
  const auto by_vectors = [&]<int kVectors, int kThreads> {
    run(RmsNormVectors<kVectors, kThreads>);
  };
  if (!aligned || !WithVectors(args.width, by_vectors)) run(RmsNormNumbers);
}

void RmsNormToE4m3(const CudaContext& context, const RmsNormArgs& args, const E4m3Rows& rows) {
  const auto run = [&](auto kernel) {
    Launch(context, "rms_norm_to_e4m3", ShapeOf(args), kernel, args, rows);
  };
  const auto by_vectors = [&]<int kVectors, int kThreads> {
    run(RmsNormVectorsToE4m3<kVectors, kThreads>);
  };
  if (!WithVectors(args.width, by_vectors)) run(RmsNormNumbersToE4m3);
}

}  // namespace baton
