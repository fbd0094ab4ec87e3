// Products of many rows in the order of sums of few: see invariant_linear.h.
//
// A block computes a tile of outputs and rows. Weights and inputs come through shared memory, in
// stages of 64 inputs: while one is multiplied the next ones are on their way. Its warps are two
// for the outputs by four for the rows; each holds the partial sum of its part in registers, and
// the total of those before it. What a lane needs of a row for a group of inputs is 16 bytes: one
// load for four words of fragments, as much as ldmatrix would give.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "engine/kernels/cuda/invariant_kernels.h"
#include "engine/kernels/cuda/launch.h"

namespace baton {

namespace {

constexpr int kStageInputs = 64;
constexpr int kStagesOfChunk = kChunkInputs / kStageInputs;
constexpr int kStageGroups = kStageInputs / kGroupInputs;
constexpr int kPieces = kStageInputs / kLaneInputs;  // of 16 bytes, of a row in a stage
constexpr int kWarpsOfOutputs = 2;
constexpr int kWarpsOfRows = 4;
constexpr int kTileThreads = kWarpsOfOutputs * kWarpsOfRows * kWarpSize;
constexpr int kRowsAtOnce = kTileThreads / kPieces;  // that a block's threads copy together
// Blocks of so many tiles of rows take outputs together, so that both factors stay in L2.
constexpr int32_t kRowTilesTogether = 16;

// kOutputTiles, kRowTiles: of an mma, of one warp.
template <int kOutputTiles, int kRowTiles>
struct TileShape {
  static constexpr int kOutputsOfWarp = kOutputTiles * kOutputsOfTile;
  static constexpr int kRowsOfWarp = kRowTiles * kRowsOfTile;
  static constexpr int kOutputs = kWarpsOfOutputs * kOutputsOfWarp;
  static constexpr int kRows = kWarpsOfRows * kRowsOfWarp;
  static constexpr int kStages = kOutputTiles >= 4 ? 3 : 4;
  // The outputs' weights [kOutputs, kPieces], then the rows' inputs [kRows, kPieces].
  static constexpr int kStagePieces = (kOutputs + kRows) * kPieces;
  static constexpr size_t kSharedBytes = sizeof(uint4) * kStages * kStagePieces;
};

// Where a row's piece lies. Eight lanes that load together have four neighbouring pieces of two
// neighbouring rows: those of odd rows change places with the other four, so that all eight are in
// different groups of banks.
__device__ __forceinline__ int PieceAt(int row, int piece) {
  return row * kPieces + (piece ^ (row % 2 * 4));
}

// Stages in the order in which they are multiplied: both of a chunk, then those of the next chunk
// of the same partial sum, then those of the next sum.
class StageOrder {
 public:
  __device__ __forceinline__ explicit StageOrder(int chunks) : chunks_(chunks) {}
  __device__ __forceinline__ bool HasNext() const { return sum_ < min(kSumWarps, chunks_); }
  // The first input of the next stage.
  __device__ __forceinline__ int Next() {
    const int begin = chunk_ * kChunkInputs + half_ * kStageInputs;
    if (++half_ == kStagesOfChunk) {
      half_ = 0;
      chunk_ += kSumWarps;
      if (chunk_ >= chunks_) chunk_ = ++sum_;
    }
    return begin;
  }

 private:
  const int chunks_;
  int sum_ = 0;
  int chunk_ = 0;
  int half_ = 0;
};

// Copies inputs [begin, begin + kStageInputs) of the matrix's rows from `first` on to shared
// memory; zeros where there are none. By all threads of the block.
template <int kRows>
__device__ __forceinline__ void CopyRows(const Bf16* matrix, int first, int rows, int k, int begin,
                                         uint4* target) {
  const int thread = static_cast<int>(threadIdx.x);
  const int piece = thread % kPieces;
  const int at = begin + piece * kLaneInputs;
#pragma unroll
  for (int i = 0; i < kRows; i += kRowsAtOnce) {
    const int row = i + thread / kPieces;
    const bool valid = first + row < rows && at < k;
    CpAsync16(target + PieceAt(row, piece), matrix + (valid ? int64_t{first + row} * k + at : 0),
              valid);
  }
}

// The pieces of a tile that the warps are to multiply, stage after stage.
template <typename Shape>
class StageRing {
 public:
  __device__ __forceinline__ StageRing(const ProductArgs& args, const Bf16* weights,
                                       int first_output, int first_row, uint4* pieces)
      : args_(args),
        weights_(weights),
        first_output_(first_output),
        first_row_(first_row),
        pieces_(pieces),
        order_(NumChunks(args.k)) {
#pragma unroll
    for (int i = 0; i < Shape::kStages - 1; ++i) Ask();
  }

  // The next stage, until Next is called again. By all threads of the block; a barrier to them.
  __device__ __forceinline__ const uint4* Next() {
    CpAsyncWait<Shape::kStages - 2>();
    __syncthreads();
    Ask();
    const uint4* stage = pieces_ + next_ * Shape::kStagePieces;
    next_ = next_ + 1 == Shape::kStages ? 0 : next_ + 1;
    return stage;
  }

 private:
  // A group behind the last stage is empty, so that waits can count.
  __device__ __forceinline__ void Ask() {
    if (order_.HasNext()) {
      const int begin = order_.Next();
      uint4* stage = pieces_ + asked_ * Shape::kStagePieces;
      CopyRows<Shape::kOutputs>(weights_, first_output_, args_.n, args_.k, begin, stage);
      CopyRows<Shape::kRows>(args_.input, first_row_, args_.rows, args_.k, begin,
                             stage + Shape::kOutputs * kPieces);
    }
    asked_ = asked_ + 1 == Shape::kStages ? 0 : asked_ + 1;
    CpAsyncCommit();
  }

  const ProductArgs& args_;
  const Bf16* weights_;
  const int first_output_;
  const int first_row_;
  uint4* pieces_;
  StageOrder order_;
  int next_ = 0;
  int asked_ = 0;
};

// Adds the products of a stage's inputs to a warp's sums. outputs, rows: where the lane's first one
// lies.
template <int kOutputTiles, int kRowTiles>
__device__ __forceinline__ void AddStage(const uint4* outputs, const uint4* rows,
                                         float (&sums)[kOutputTiles][kRowTiles][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int group = 0; group < kStageGroups; ++group) {
    const int own = PieceAt(lane / 4, group * 4 + lane % 4);
    uint4 input[kRowTiles];
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) input[i] = rows[own + i * kRowsOfTile * kPieces];
#pragma unroll
    for (int tile = 0; tile < kOutputTiles; ++tile) {
      const uint4 upper = outputs[own + tile * kOutputsOfTile * kPieces];
      const uint4 lower = outputs[own + (tile * kOutputsOfTile + 8) * kPieces];
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) AddGroup(upper, lower, input[i], sums[tile][i]);
    }
  }
}

template <int kOutputTiles, int kRowTiles>
__device__ __forceinline__ void AddTo(const float (&sums)[kOutputTiles][kRowTiles][4],
                                      float (&totals)[kOutputTiles][kRowTiles][4]) {
#pragma unroll
  for (int tile = 0; tile < kOutputTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) totals[tile][i][j] += sums[tile][i][j];
    }
  }
}

// first_output, first_row: the warp's.
template <int kOutputTiles, int kRowTiles>
__device__ __forceinline__ void FinishTile(const ProductArgs& args, int first_output, int first_row,
                                           const float (&totals)[kOutputTiles][kRowTiles][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
    for (int tile = 0; tile < kOutputTiles; ++tile) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int row = first_row + i * kRowsOfTile + lane % 4 * 2 + j % 2;
        const int output = first_output + tile * kOutputsOfTile + lane / 4 + j / 2 * 8;
        const float total = totals[tile][i][j];
        // Of the next output, for lanes of an even one; all lanes of a block take the same way.
        const bool gated = args.epilogue == CudaEpilogue::kSiluMul;
        const float next = gated ? __shfl_down_sync(kFullWarp, total, 4) : 0.0f;
        if (row >= args.rows || output >= args.n) continue;
        if (!gated) FinishProduct(args, row, output, total);
        if (gated && output % 2 == 0) FinishPair(args, row, output, total, next);
      }
    }
  }
}

template <int kOutputTiles, int kRowTiles>
__global__ void __launch_bounds__(kTileThreads) TileProduct(ProductArgs args, const Bf16* weights) {
  WaitForPreviousGrid();
  using Shape = TileShape<kOutputTiles, kRowTiles>;
  const int row_tile = static_cast<int>(blockIdx.z * kRowTilesTogether + blockIdx.x);
  const int first_row = row_tile * Shape::kRows;
  const int first_output = static_cast<int>(blockIdx.y) * Shape::kOutputs;
  if (first_row >= args.rows) return;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int output_of_warp = warp % kWarpsOfOutputs * Shape::kOutputsOfWarp;
  const int row_of_warp = warp / kWarpsOfOutputs * Shape::kRowsOfWarp;
  const int chunks = NumChunks(args.k);
  StageRing<Shape> ring(args, weights, first_output, first_row, DynamicShared<uint4>());
  float totals[kOutputTiles][kRowTiles][4] = {};
  for (int sum = 0; sum < min(kSumWarps, chunks); ++sum) {
    float sums[kOutputTiles][kRowTiles][4] = {};
    for (int chunk = sum; chunk < chunks; chunk += kSumWarps) {
#pragma unroll 1
      for (int half = 0; half < kStagesOfChunk; ++half) {
        const uint4* stage = ring.Next();
        AddStage(stage + output_of_warp * kPieces,
                 stage + (Shape::kOutputs + row_of_warp) * kPieces, sums);
      }
    }
    AddTo(sums, totals);
  }
  FinishTile(args, first_output + output_of_warp, first_row + row_of_warp, totals);
}

template <int kOutputTiles, int kRowTiles>
void Start(const CudaContext& context, const ProductArgs& args, const Bf16* weights) {
  using Shape = TileShape<kOutputTiles, kRowTiles>;
  const int32_t row_tiles = (args.rows + Shape::kRows - 1) / Shape::kRows;
  const dim3 grid(static_cast<unsigned>(std::min(row_tiles, kRowTilesTogether)),
                  static_cast<unsigned>((args.n + Shape::kOutputs - 1) / Shape::kOutputs),
                  static_cast<unsigned>((row_tiles + kRowTilesTogether - 1) / kRowTilesTogether));
  Launch(context, "invariant_linear",
         {.grid = grid, .block = kTileThreads, .shared_bytes = Shape::kSharedBytes},
         TileProduct<kOutputTiles, kRowTiles>, args, weights);
}

}  // namespace

void MultiplySmallTiles(const CudaContext& context, const ProductArgs& args, const Bf16* weights) {
  Start<2, 2>(context, args, weights);
}
void MultiplyLargeTiles(const CudaContext& context, const ProductArgs& args, const Bf16* weights) {
  Start<4, 4>(context, args, weights);
}

}  // namespace baton
