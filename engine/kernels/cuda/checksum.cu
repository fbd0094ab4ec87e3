#include "engine/kernels/cuda/checksum.h"

#include "common/check.h"
#include "engine/kernels/cuda/launch.h"

namespace baton {

namespace {

constexpr int kLanes = 8;          // of 8 bytes, a stripe
constexpr int kStripeBytes = 64;   // 8 lanes
constexpr int kBlockStripes = 16;  // of a whole block
constexpr int kWarpThreads = 32;
constexpr int kSecretBytes = 192;
// Where in the secret the rules begin to read, in bytes.
constexpr int kLastStripeSecret = kSecretBytes - kStripeBytes - 7;
constexpr int kScrambleSecret = kSecretBytes - kStripeBytes;
constexpr int kMergeSecret = 11;

constexpr uint64_t kPrime32_1 = 0x9E3779B1;
constexpr uint64_t kPrime32_2 = 0x85EBCA77;
constexpr uint64_t kPrime32_3 = 0xC2B2AE3D;
constexpr uint64_t kPrime64_1 = 0x9E3779B185EBCA87;
constexpr uint64_t kPrime64_2 = 0xC2B2AE3D27D4EB4F;
constexpr uint64_t kPrime64_3 = 0x165667B19E3779F9;
constexpr uint64_t kPrime64_4 = 0x85EBCA77C2B2AE63;
constexpr uint64_t kPrime64_5 = 0x27D4EB2F165667C5;
constexpr uint64_t kPrimeAvalanche = 0x165667919E3779F9;

// The specification's bytes, little-endian words of them.
__device__ const uint64_t kSecret[kSecretBytes / 8] = {
    0xbe4ba423396cfeb8, 0x1cad21f72c81017c, 0xdb979083e96dd4de, 0x1f67b3b7a4a44072,
    0x78e5c0cc4ee679cb, 0x2172ffcc7dd05a82, 0x8e2443f7744608b8, 0x4c263a81e69035e0,
    0xcb00c391bb52283c, 0xa32e531b8b65d088, 0x4ef90da297486471, 0xd8acdea946ef1938,
    0x3f349ce33f76faa8, 0x1d4f0bc7c7bbdcf9, 0x3159b4cd4be0518a, 0x647378d9c97e9fc8,
    0xc3ebd33483acc5ea, 0xeb6313faffa081c5, 0x49daf0b751dd0d17, 0x9e68d429265516d3,
    0xfca1477d58be162b, 0xce31d07ad1b8f88f, 0x280416958f3acb45, 0x7e404bbbcafbd7af,
};

__device__ __forceinline__ uint64_t SecretAt(int byte) {
  const int word = byte / 8;
  const int shift = byte % 8 * 8;
  if (shift == 0) return kSecret[word];
  return (kSecret[word] >> shift) | (kSecret[word + 1] << (64 - shift));
}

__device__ __forceinline__ uint64_t ProductOfHalves(uint64_t keyed) {
  return (keyed & 0xffffffff) * (keyed >> 32);
}
__device__ __forceinline__ uint64_t FoldedProduct(uint64_t a, uint64_t b) {
  return (a * b) ^ __umul64hi(a, b);
}

constexpr int kSumThreads = 256;
constexpr int kSumWarps = kSumThreads / kWarpThreads;
constexpr int kStripesAtOnce = kWarpThreads / kLanes;

// A warp sums up one block: thread t has lane t % 8 of the stripes t / 8, t / 8 + 4, ….
__global__ void __launch_bounds__(kSumThreads) SumBlocksKernel(ChecksumArgs args) {
  const int64_t last_block = (args.length_bytes - 1) / kChecksumBlockBytes;
  const int64_t block = int64_t{blockIdx.x} * kSumWarps + threadIdx.x / kWarpThreads;
  if (block > last_block) return;  // whole warps
  const int thread = static_cast<int>(threadIdx.x % kWarpThreads);
  const int lane = thread % kLanes;
  const int64_t begin = block * kChecksumBlockBytes;
  const int stripes = block < last_block
                          ? kBlockStripes
                          : static_cast<int>((args.length_bytes - 1 - begin) / kStripeBytes);
  const auto read = [&](int64_t byte) {
    return *reinterpret_cast<const uint64_t*>(args.data + byte + lane * 8);
  };
  uint64_t values = 0;    // of this lane: they go to its neighbour's accumulator
  uint64_t products = 0;  // to its own
#pragma unroll
  for (int first = 0; first < kBlockStripes; first += kStripesAtOnce) {
    const int stripe = first + thread / kLanes;
    if (stripe < stripes) {
      const uint64_t value = read(begin + stripe * kStripeBytes);
      values += value;
      products += ProductOfHalves(value ^ kSecret[stripe + lane]);
    }
  }
  // The input's last 64 bytes are a stripe of their own; they overlap others.
  if (block == last_block && thread < kLanes) {
    const uint64_t value = read(args.length_bytes - kStripeBytes);
    values += value;
    products += ProductOfHalves(value ^ SecretAt(kLastStripeSecret + lane * 8));
  }
#pragma unroll
  for (int distance = kLanes; distance < kWarpThreads; distance *= 2) {
    values += __shfl_xor_sync(~0u, values, distance);
    products += __shfl_xor_sync(~0u, products, distance);
  }
  products += __shfl_xor_sync(~0u, values, 1);
  if (thread < kLanes) args.sums[block * kLanes + lane] = products;
}

constexpr int kChainThreads = 256;
constexpr int kChainBlocks = 128;  // whose sums are held at once

// One block: its first warp goes along the chain while the others fetch what comes next.
__global__ void __launch_bounds__(kChainThreads) ChainBlocksKernel(ChecksumArgs args) {
  __shared__ uint64_t held[2][kChainBlocks * kLanes];
  const int64_t num_blocks = (args.length_bytes - 1) / kChecksumBlockBytes + 1;
  const int thread = static_cast<int>(threadIdx.x);
  const auto fetch = [&](int64_t first, uint64_t* to, int by, int threads) {
    const int64_t words = (num_blocks - first) * kLanes;
    for (int64_t i = by; i < words && i < kChainBlocks * kLanes; i += threads) {
      to[i] = args.sums[first * kLanes + i];
    }
  };
  constexpr uint64_t kStart[kLanes] = {kPrime32_3, kPrime64_1, kPrime64_2, kPrime64_3,
                                       kPrime64_4, kPrime32_2, kPrime64_5, kPrime32_1};
  uint64_t accumulator = 0;
#pragma unroll
  for (int lane = 0; lane < kLanes; ++lane) {
    if (thread == lane) accumulator = kStart[lane];
  }
  const uint64_t secret = thread < kLanes ? SecretAt(kScrambleSecret + thread * 8) : 0;
  fetch(0, held[0], thread, kChainThreads);
  __syncthreads();
  int half = 0;
  for (int64_t first = 0; first < num_blocks; first += kChainBlocks, half ^= 1) {
    if (thread < kLanes) {
      for (int64_t i = 0; i < kChainBlocks && first + i < num_blocks; ++i) {
        accumulator += held[half][i * kLanes + thread];
        if (first + i + 1 < num_blocks) {
          accumulator = (accumulator ^ (accumulator >> 47) ^ secret) * kPrime32_1;
        }
      }
    } else if (thread >= kWarpThreads) {
      fetch(first + kChainBlocks, held[half ^ 1], thread - kWarpThreads,
            kChainThreads - kWarpThreads);
    }
    __syncthreads();
  }
  if (thread < kLanes) held[0][thread] = accumulator ^ SecretAt(kMergeSecret + thread * 8);
  __syncthreads();
  if (thread > 0) return;
  uint64_t hash = static_cast<uint64_t>(args.length_bytes) * kPrime64_1;
  for (int lane = 0; lane < kLanes; lane += 2) {
    hash += FoldedProduct(held[0][lane], held[0][lane + 1]);
  }
  hash ^= hash >> 37;
  hash *= kPrimeAvalanche;
  *args.checksum = hash ^ (hash >> 32);
}

}  // namespace

cudaError_t EnqueueChecksum(cudaStream_t stream, const ChecksumArgs& args) {
  BATON_CHECK(args.length_bytes >= kMinChecksumBytes && args.length_bytes % 8 == 0)
      << args.length_bytes;
  const int64_t grid = (ChecksumBlocks(args.length_bytes) + kSumWarps - 1) / kSumWarps;
  const cudaError_t summed =
      LaunchOn(stream, {.grid = dim3(static_cast<unsigned>(grid)), .block = kSumThreads},
               SumBlocksKernel, args);
  if (summed != cudaSuccess) return summed;
  return LaunchOn(stream, {.grid = dim3(1), .block = kChainThreads}, ChainBlocksKernel, args);
}

}  // namespace baton
