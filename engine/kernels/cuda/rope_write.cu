#include "common/check.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/rope_write.h"
#include "engine/kernels/cuda/vectors.h"
#include "engine/kernels/paged_attention.h"

namespace baton {

namespace {

constexpr int kThreads = 256;

// Some numbers of the lower half of a head, and those of the upper half that rotate with them.
template <int kNumbers>
struct Pairs {
  float low[kNumbers];
  float high[kNumbers];
};

template <int kNumbers>
__device__ __forceinline__ Pairs<kNumbers> LoadPairs(const Bf16* head, int at, int half) {
  Pairs<kNumbers> pairs;
  LoadBf16(head + at, pairs.low);
  LoadBf16(head + half + at, pairs.high);
  return pairs;
}

template <int kNumbers>
__device__ __forceinline__ void StorePairs(const Pairs<kNumbers>& pairs, int at, int half,
                                           Bf16* head) {
  StoreBf16(pairs.low, head + at);
  StoreBf16(pairs.high, head + half + at);
}

// The lanes of a head, `width` of a power of two, hold it together; those beyond it hold zeros.
template <int kNumbers>
__device__ __forceinline__ void Normalise(const float* weight, float epsilon, int at, int half,
                                          bool inside, int width, Pairs<kNumbers>* pairs) {
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kNumbers; ++i) {
    squares += pairs->low[i] * pairs->low[i] + pairs->high[i] * pairs->high[i];
  }
  for (int lane = width / 2; lane > 0; lane /= 2) {
    squares += __shfl_xor_sync(kFullWarp, squares, lane);
  }
  if (!inside) return;
  const float factor = 1.0f / sqrtf(squares / static_cast<float>(2 * half) + epsilon);
#pragma unroll
  for (int i = 0; i < kNumbers; ++i) {
    pairs->low[i] *= factor * weight[at + i];
    pairs->high[i] *= factor * weight[half + at + i];
  }
}

template <int kNumbers>
__device__ __forceinline__ void Rotate(const float* cosines, const float* sines, int at,
                                       Pairs<kNumbers>* pairs) {
#pragma unroll
  for (int i = 0; i < kNumbers; ++i) {
    const float low = pairs->low[i];
    const float high = pairs->high[i];
    pairs->low[i] = low * cosines[at + i] - high * sines[at + i];
    pairs->high[i] = high * cosines[at + i] + low * sines[at + i];
  }
}

// Of a row's position, by pair of numbers of a head.
struct Turns {
  float cosines[kMaxHeadDim / 2];
  float sines[kMaxHeadDim / 2];
};
// The block's. Not in the kernel, as g++ keeps a template's variables out of the section where the
// emulation looks for shared ones.
__device__ __forceinline__ Turns& SharedTurns() {
  __shared__ Turns turns;
  return turns;
}

// Where key head `part` of the row goes, or value head part - num_kv_heads.
__device__ __forceinline__ Bf16* CacheRow(const KvLayerView& layer, const KvSlot& slot, int part) {
  return reinterpret_cast<Bf16*>(layer.base + slot.block.value() * layer.block_bytes +
                                 (int64_t{part} * layer.block_size + slot.offset) *
                                     layer.row_bytes);
}

// One block a row. `width` lanes hold a head, kNumbers pairs each.
template <int kNumbers>
__global__ void __launch_bounds__(kThreads) RopeWriteKernel(RopeWriteArgs args, int width) {
  WaitForPreviousGrid();
  Turns& turns = SharedTurns();
  const int64_t row = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  const int half = args.layer.head_dim / 2;
  for (int i = thread; i < half; i += kThreads) {
    const float angle = static_cast<float>(args.positions[row]) * args.inverse_frequencies[i];
    turns.cosines[i] = cosf(angle);
    turns.sines[i] = sinf(angle);
  }
  __syncthreads();
  const KvSlot slot = args.slots[row];
  const int keys_end = args.num_heads + args.layer.num_kv_heads;
  const int heads = keys_end + args.layer.num_kv_heads;
  const int at = thread % width * kNumbers;
  const int step = kThreads / width;
  for (int first = 0; first < heads; first += step) {  // all lanes stay, for the shuffles
    const int head = first + thread / width;
    const bool inside = head < heads && at < half;
    Bf16* numbers = args.qkv + row * args.row_stride + int64_t{head} * args.layer.head_dim;
    Pairs<kNumbers> pairs{};
    if (inside) pairs = LoadPairs<kNumbers>(numbers, at, half);
    const bool is_query = head < args.num_heads;
    const float* norm = is_query ? args.query_norm : args.key_norm;
    if (args.query_norm != nullptr || args.key_norm != nullptr) {
      const bool normed = inside && head < keys_end && norm != nullptr;
      Normalise(norm, args.epsilon, at, half, normed, width, &pairs);
    }
    if (!inside) continue;
    if (head < keys_end) Rotate(turns.cosines, turns.sines, at, &pairs);
    if (is_query) {
      StorePairs(pairs, at, half, numbers);
    } else if (slot.block.value() >= 0) {
      StorePairs(pairs, at, half, CacheRow(args.layer, slot, head - args.num_heads));
    }
  }
}

}  // namespace

void RopeWrite(const CudaContext& context, const RopeWriteArgs& args) {
  const int head_dim = args.layer.head_dim;
  BATON_CHECK(args.layer.dtype == KvDtype::kBf16) << KvDtypeName(args.layer.dtype);
  BATON_CHECK(head_dim % 8 == 0 && head_dim <= kMaxHeadDim) << head_dim;
  BATON_CHECK(args.row_stride % 8 == 0) << args.row_stride;
  const int numbers = head_dim % 16 == 0 ? 8 : 4;
  int width = 1;
  while (width * numbers < head_dim / 2) width *= 2;
  Launch(context, "rope_write", {.grid = dim3(static_cast<unsigned>(args.rows)), .block = kThreads},
         numbers == 8 ? RopeWriteKernel<8> : RopeWriteKernel<4>, args, width);
}

}  // namespace baton
