#include "engine/kernels/cuda/copy_rows.h"

#include <algorithm>

#include "common/check.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/vectors.h"

namespace baton {

namespace {

constexpr int kThreads = 256;
constexpr int kVectorsOfThread = 4;

unsigned BlocksFor(int64_t pieces) {
  constexpr int64_t kPieces = int64_t{kThreads} * kVectorsOfThread;
  return static_cast<unsigned>((pieces + kPieces - 1) / kPieces);
}

// This block's share of `pieces`, all loads before the first store.
template <typename Piece>
__device__ __forceinline__ void CopyShare(const Piece* from, Piece* to, int64_t pieces,
                                          int64_t share) {
  const int64_t first = share * kThreads * kVectorsOfThread + threadIdx.x;
  Piece held[kVectorsOfThread];
#pragma unroll
  for (int i = 0; i < kVectorsOfThread; ++i) {
    if (first + i * kThreads < pieces) held[i] = from[first + i * kThreads];
  }
#pragma unroll
  for (int i = 0; i < kVectorsOfThread; ++i) {
    if (first + i * kThreads < pieces) to[first + i * kThreads] = held[i];
  }
}

template <typename Piece>
__global__ void __launch_bounds__(kThreads) GatherRowsKernel(GatherRowsArgs args) {
  const int64_t row = blockIdx.x;
  const std::byte* from = args.input + args.indices[row] * args.row_bytes;
  CopyShare(reinterpret_cast<const Piece*>(from),
            reinterpret_cast<Piece*>(args.output + row * args.row_bytes),
            args.row_bytes / static_cast<int64_t>(sizeof(Piece)), blockIdx.y);
}

__global__ void __launch_bounds__(kThreads) CopyBlocksKernel(CopyBlocksArgs args) {
  const KvBlockCopy copy = args.copies[blockIdx.x];
  std::byte* layer = args.layers[blockIdx.y];
  CopyShare(reinterpret_cast<const uint4*>(layer + copy.from.value() * args.block_bytes),
            reinterpret_cast<uint4*>(layer + copy.to.value() * args.block_bytes),
            args.block_bytes / kVectorBytes, blockIdx.z);
}

constexpr size_t kBlocksOfLaunch = 480;  // what arguments have room for, 2 KiB

struct SlotPart {
  std::byte* layer = nullptr;
  std::byte* slot = nullptr;
  int64_t block_bytes = 0;
  int32_t blocks[kBlocksOfLaunch] = {};
};

template <bool kToSlot>
__global__ void __launch_bounds__(kThreads) CopySlotKernel(SlotPart part) {
  auto* in_layer =
      reinterpret_cast<uint4*>(part.layer + part.blocks[blockIdx.x] * part.block_bytes);
  auto* in_slot = reinterpret_cast<uint4*>(part.slot + blockIdx.x * part.block_bytes);
  CopyShare<uint4>(kToSlot ? in_layer : in_slot, kToSlot ? in_slot : in_layer,
                   part.block_bytes / kVectorBytes, blockIdx.y);
}

template <bool kToSlot>
cudaError_t CopySlot(cudaStream_t stream, const KvSlotArgs& args) {
  BATON_CHECK(args.block_bytes % kVectorBytes == 0 && AlignedForVectors(args.layer, args.slot))
      << args.block_bytes;
  for (size_t first = 0; first < args.blocks.size(); first += kBlocksOfLaunch) {
    const size_t count = std::min(kBlocksOfLaunch, args.blocks.size() - first);
    SlotPart part{.layer = args.layer,
                  .slot = args.slot + static_cast<int64_t>(first) * args.block_bytes,
                  .block_bytes = args.block_bytes};
    for (size_t i = 0; i < count; ++i) part.blocks[i] = args.blocks[first + i].value();
    const dim3 grid(static_cast<unsigned>(count), BlocksFor(args.block_bytes / kVectorBytes));
    const cudaError_t error =
        LaunchOn(stream, {.grid = grid, .block = kThreads}, CopySlotKernel<kToSlot>, part);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t GatherKvBlocks(cudaStream_t stream, const KvSlotArgs& args) {
  return CopySlot<true>(stream, args);
}

cudaError_t ScatterKvBlocks(cudaStream_t stream, const KvSlotArgs& args) {
  return CopySlot<false>(stream, args);
}

void GatherRows(const CudaContext& context, const GatherRowsArgs& args) {
  const auto run = [&](auto kernel, int64_t piece_bytes) {
    Launch(context, "gather_rows",
           {.grid = dim3(static_cast<unsigned>(args.rows), BlocksFor(args.row_bytes / piece_bytes)),
            .block = kThreads},
           kernel, args);
  };
  if (args.row_bytes % kVectorBytes == 0 && AlignedForVectors(args.input, args.output)) {
    run(GatherRowsKernel<uint4>, kVectorBytes);
  } else {
    run(GatherRowsKernel<uint8_t>, 1);
  }
}

void CopyBlocks(const CudaContext& context, const CopyBlocksArgs& args) {
  BATON_CHECK(args.block_bytes % kVectorBytes == 0) << args.block_bytes;
  Launch(
      context, "copy_blocks",
      {.grid = dim3(static_cast<unsigned>(args.num_copies), static_cast<unsigned>(args.num_layers),
                    BlocksFor(args.block_bytes / kVectorBytes)),
       .block = kThreads},
      CopyBlocksKernel, args);
}

}  // namespace baton
