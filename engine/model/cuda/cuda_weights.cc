#include "engine/model/cuda/cuda_weights.h"

#include <algorithm>
#include <span>
#include <utility>

#include "common/check.h"
#include "engine/kernels/cuda/quantized_weights.h"

namespace baton {
namespace {

constexpr int64_t kNumbersOfTask = 64 << 10;  // at least, of one task on the pool

}  // namespace

absl::StatusOr<std::unique_ptr<CudaWeightReader>> CudaWeightReader::Create(
    const CudaContext& context, WeightSource* source, ComputePool* pool, WeightElement element,
    size_t staging_bytes) {
  std::unique_ptr<CudaWeightReader> reader(new CudaWeightReader(context, source, pool, element));
  for (Staging& staging : reader->staging_) {
    ASSIGN_OR_RETURN(staging.bytes, PinnedArray<std::byte>::Create(staging_bytes));
    ASSIGN_OR_RETURN(staging.copied, CudaEvent::Create());
  }
  return reader;
}

absl::StatusOr<DeviceArray<float>> CudaWeightReader::Vector(const std::string& name,
                                                            WeightRole role, int64_t size) {
  ASSIGN_OR_RETURN(const std::vector<float> values, ReadVector(name, role, size, source_));
  ASSIGN_OR_RETURN(DeviceArray<float> array, DeviceArray<float>::Create(values.size()));
  Upload(context_, values, &array);
  return array;
}

absl::Status CudaWeightReader::ReservePiece(int64_t bytes) {
  const auto size = static_cast<size_t>(bytes);
  for (Staging& staging : staging_) {
    if (staging.bytes.size() >= size) continue;
    staging.copied.Wait(context_);
    ASSIGN_OR_RETURN(staging.bytes, PinnedArray<std::byte>::Create(size));
  }
  return absl::OkStatus();
}

void CudaWeightReader::ReadRows(const MatrixShape& shape, const MatrixTensors& tensors,
                                int64_t begin, int64_t end, std::byte* output) {
  const int64_t columns = shape.columns;
  auto* numbers = reinterpret_cast<Bf16*>(output);
  const int64_t rows_of_task = std::max<int64_t>(1, kNumbersOfTask / columns);
  const int64_t tasks = (end - begin + rows_of_task - 1) / rows_of_task;
  pool_.Run(static_cast<int32_t>(tasks), [&](int32_t task, int32_t /*thread*/) {
    const int64_t first = begin + task * rows_of_task;
    for (int64_t row = first; row < std::min(end, first + rows_of_task); ++row) {
      const MatrixShape::Place place = shape.PlaceOf(row);
      tensors.weights[place.part].ReadRow(place.row, numbers + (row - begin) * columns);
    }
  });
}

void CudaWeightReader::ReadTiles(WeightElement element, const MatrixShape& shape,
                                 const MatrixTensors& tensors, int64_t begin, int64_t end,
                                 std::byte* output) {
  const auto columns = static_cast<size_t>(shape.columns);
  const int64_t bytes = QuantTileBytes(element, shape.columns);
  pool_.ReserveScratch(size_t{kQuantTileOutputs} * columns * sizeof(float));
  pool_.Run(static_cast<int32_t>(end - begin), [&](int32_t task, int32_t thread) {
    auto* scratch = reinterpret_cast<float*>(pool_.Scratch(thread));
    std::vector<const float*> rows;
    const int64_t first = (begin + task) * kQuantTileOutputs;
    for (int64_t row = first; row < std::min(shape.Rows(), first + kQuantTileOutputs); ++row) {
      const MatrixShape::Place place = shape.PlaceOf(row);
      float* target = scratch + rows.size() * columns;
      tensors.weights[place.part].ReadRow(place.row, target);
      rows.push_back(target);
    }
    PackQuantizedTile(element, rows, shape.columns, output + task * bytes);
  });
}

absl::StatusOr<CudaMatrix> CudaWeightReader::Matrix(const MatrixShape& shape, MatrixUse use) {
  BATON_CHECK(shape.taken_columns.begin == 0 && shape.taken_columns.end == shape.columns)
      << shape.parts.front().name;
  ASSIGN_OR_RETURN(const MatrixTensors tensors, OpenTensors(shape, source_));
  const WeightElement element = ElementFor(use, element_, WeightElement::kBf16);
  const bool quantized = IsQuantized(element);
  const auto n = static_cast<int32_t>(shape.Rows());
  ASSIGN_OR_RETURN(CudaMatrix matrix, CudaMatrix::Create(n, shape.columns, element));
  const Pieces pieces =
      quantized ? Pieces{NumQuantTiles(n), QuantTileBytes(element, shape.columns)}
                : Pieces{n, int64_t{shape.columns} * static_cast<int64_t>(sizeof(Bf16))};
  auto* target =
      quantized ? matrix.tiles().data() : reinterpret_cast<std::byte*>(matrix.weights().data());
  RETURN_IF_ERROR(ReservePiece(pieces.bytes));
  for (int64_t begin = 0; begin < pieces.count;) {
    Staging& staging = staging_[turn_];
    turn_ = (turn_ + 1) % staging_.size();
    const int64_t fit = static_cast<int64_t>(staging.bytes.size()) / pieces.bytes;
    const int64_t end = std::min(pieces.count, begin + fit);
    staging.copied.Wait(context_);
    if (quantized) {
      ReadTiles(element, shape, tensors, begin, end, staging.bytes.data());
    } else {
      ReadRows(shape, tensors, begin, end, staging.bytes.data());
    }
    context_.Note(cudaMemcpyAsync(target + begin * pieces.bytes, staging.bytes.data(),
                                  static_cast<size_t>((end - begin) * pieces.bytes),
                                  cudaMemcpyHostToDevice, context_.stream()),
                  "upload of weights");
    staging.copied.Record(context_);
    begin = end;
  }
  if (shape.bias) RETURN_IF_ERROR(matrix.SetBias(context_, tensors.bias));
  RETURN_IF_ERROR(context_.status());
  return matrix;
}

absl::Status CudaWeightReader::Finish() {
  RETURN_IF_ERROR(source_.CheckAllUsed());
  return context_.Synchronize();
}

}  // namespace baton
