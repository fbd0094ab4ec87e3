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
  WaitForPreviousGrid();
  const int64_t row = blockIdx.x;
  const std::byte* from = args.input + args.indices[row] * args.row_bytes;
  CopyShare(reinterpret_cast<const Piece*>(from),
            reinterpret_cast<Piece*>(args.output + row * args.row_bytes),
            args.row_bytes / static_cast<int64_t>(sizeof(Piece)), blockIdx.y);
}

__global__ void __launch_bounds__(kThreads) CopyBlocksKernel(CopyBlocksArgs args) {
  WaitForPreviousGrid();
  const KvBlockCopy copy = args.copies[blockIdx.x];
  std::byte* layer = args.layers[blockIdx.y];
  CopyShare(reinterpret_cast<const uint4*>(layer + copy.from.value() * args.block_bytes),
            reinterpret_cast<uint4*>(layer + copy.to.value() * args.block_bytes),
            args.block_bytes / kVectorBytes, blockIdx.z);
}

constexpr size_t kBlocksOfLaunch = 480;  // what arguments have room for, 2 KiB

// What of a block lies together in a region is a piece: all of it where there is one part, else its
// keys, and its values.
struct SlotCopy {
  std::byte* layers[kMaxKvRegions] = {};  // [regions]
  std::byte* slot = nullptr;              // [blocks, pieces, parts, piece_bytes]
  int64_t piece_bytes = 0;
  int32_t pieces = 0;   // of a block
  int32_t regions = 0;  // that are read, or written
  int32_t parts = 0;
  int32_t copies = 0;  // regions of a part
  int32_t blocks[kBlocksOfLaunch] = {};
};

template <bool kToSlot>
__global__ void __launch_bounds__(kThreads) CopySlotKernel(SlotCopy copy) {
  const auto region = static_cast<int32_t>(blockIdx.z) % copy.regions;
  const auto piece = static_cast<int32_t>(blockIdx.z) / copy.regions;
  const int64_t of_layer = int64_t{copy.blocks[blockIdx.x]} * copy.pieces + piece;
  const int64_t of_slot =
      (int64_t{blockIdx.x} * copy.pieces + piece) * copy.parts + region / copy.copies;
  auto* in_layer = reinterpret_cast<uint4*>(copy.layers[region] + of_layer * copy.piece_bytes);
  auto* in_slot = reinterpret_cast<uint4*>(copy.slot + of_slot * copy.piece_bytes);
  CopyShare<uint4>(kToSlot ? in_layer : in_slot, kToSlot ? in_slot : in_layer,
                   copy.piece_bytes / kVectorBytes, blockIdx.y);
}

// All but the blocks.
template <bool kToSlot>
SlotCopy WithoutBlocks(const KvSlotArgs& args) {
  const size_t parts = args.layers.size() / args.copies;
  const int32_t pieces = parts > 1 ? 2 : 1;
  const size_t step = kToSlot ? args.copies : 1;  // one region of each part, or all
  SlotCopy copy{.piece_bytes = args.block_bytes / pieces,
                .pieces = pieces,
                .regions = static_cast<int32_t>(args.layers.size() / step),
                .parts = static_cast<int32_t>(parts),
                .copies = static_cast<int32_t>(args.copies / step)};
  BATON_CHECK(args.layers.size() <= kMaxKvRegions && copy.piece_bytes % kVectorBytes == 0)
      << args.layers.size() << args.block_bytes;
  for (size_t i = 0; i * step < args.layers.size(); ++i) {
    copy.layers[i] = args.layers[i * step];
    BATON_CHECK(AlignedForVectors(copy.layers[i], args.slot));
  }
  return copy;
}

template <bool kToSlot>
cudaError_t CopySlot(cudaStream_t stream, const KvSlotArgs& args) {
  if (args.blocks.empty()) return cudaSuccess;
  SlotCopy copy = WithoutBlocks<kToSlot>(args);
  const int64_t slot_bytes = args.block_bytes * copy.parts;  // of a block
  for (size_t first = 0; first < args.blocks.size(); first += kBlocksOfLaunch) {
    const size_t count = std::min(kBlocksOfLaunch, args.blocks.size() - first);
    copy.slot = args.slot + static_cast<int64_t>(first) * slot_bytes;
    for (size_t i = 0; i < count; ++i) copy.blocks[i] = args.blocks[first + i].value();
    const dim3 grid(static_cast<unsigned>(count), BlocksFor(copy.piece_bytes / kVectorBytes),
                    static_cast<unsigned>(copy.pieces * copy.regions));
    const cudaError_t error =
        LaunchOn(stream, {.grid = grid, .block = kThreads}, CopySlotKernel<kToSlot>, copy);
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
