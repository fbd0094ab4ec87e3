#include "common/check.h"
#include "engine/kernels/cuda/embedding.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/vectors.h"

namespace baton {

namespace {

constexpr int kThreads = 128;
constexpr int kNumbers = 8;  // of one thread in the vector kernel

// The row of the table that is output row `row`'s; null: it has none.
__device__ __forceinline__ const Bf16* FindRow(const CudaEmbeddingArgs& args, int64_t row) {
  const TokenId token = args.tokens[row] - args.first_token;
  const bool found = token >= 0 && token < args.num_tokens;
  return found ? args.table + int64_t{token} * args.width : nullptr;
}

__global__ void __launch_bounds__(kThreads) EmbeddingVectors(CudaEmbeddingArgs args) {
  WaitForPreviousGrid();
  const int at = static_cast<int>(blockIdx.y * kThreads + threadIdx.x) * kNumbers;
  if (at >= args.width) return;
  const int64_t row = blockIdx.x;
  float values[kNumbers] = {};
  const Bf16* const found = FindRow(args, row);
  if (found != nullptr) LoadBf16(found + at, values);
  auto* output = reinterpret_cast<float4*>(args.output + row * args.width + at);
  output[0] = make_float4(values[0], values[1], values[2], values[3]);
  output[1] = make_float4(values[4], values[5], values[6], values[7]);
}

__global__ void __launch_bounds__(kThreads) EmbeddingNumbers(CudaEmbeddingArgs args) {
  WaitForPreviousGrid();
  const int at = static_cast<int>(blockIdx.y * kThreads + threadIdx.x);
  if (at >= args.width) return;
  const int64_t row = blockIdx.x;
  const Bf16* const found = FindRow(args, row);
  args.output[row * args.width + at] = found != nullptr ? ToFloat(found[at]) : 0.0f;
}

}  // namespace

void Embedding(const CudaContext& context, const CudaEmbeddingArgs& args) {
  BATON_CHECK(args.rows == 0 || args.num_tokens > 0) << args.rows << args.num_tokens;
  const bool vectors = args.width % kNumbers == 0 && AlignedForVectors(args.table, args.output);
  const int numbers_of_block = kThreads * (vectors ? kNumbers : 1);
  const auto blocks = static_cast<unsigned>((args.width + numbers_of_block - 1) / numbers_of_block);
  Launch(context, "embedding",
         {.grid = dim3(static_cast<unsigned>(args.rows), blocks), .block = kThreads},
         vectors ? EmbeddingVectors : EmbeddingNumbers, args);
}

}  // namespace baton
