#include "engine/model/cuda/cuda_weights.h"

#include <algorithm>
#include <span>
#include <utility>

#include "common/check.h"
#include "engine/kernels/cuda/fill_random.h"
#include "engine/kernels/cuda/fp8.h"
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
  baton::Upload(context_, values, &array);
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
                                const Part& part) {
  const int64_t columns = shape.taken_columns.count();
  const bool all_columns = columns == shape.columns;
  auto* numbers = reinterpret_cast<Bf16*>(part.output);
  const int64_t rows_of_task = std::max<int64_t>(1, kNumbersOfTask / shape.columns);
  const int64_t tasks = (part.end - part.begin + rows_of_task - 1) / rows_of_task;
  if (!all_columns) pool_.ReserveScratch(static_cast<size_t>(shape.columns) * sizeof(Bf16));
  pool_.Run(static_cast<int32_t>(tasks), [&](int32_t task, int32_t thread) {
    Bf16* const whole = reinterpret_cast<Bf16*>(pool_.Scratch(thread));
    const int64_t first = part.begin + task * rows_of_task;
    for (int64_t row = first; row < std::min(part.end, first + rows_of_task); ++row) {
      const MatrixShape::Place place = shape.PlaceOf(row);
      Bf16* const target = numbers + (row - part.begin) * columns;
      tensors.weights[place.part].ReadRow(place.row, all_columns ? target : whole);
      if (!all_columns) std::copy_n(whole + shape.taken_columns.begin, columns, target);
    }
  });
}

void CudaWeightReader::ReadTiles(WeightElement element, const MatrixShape& shape,
                                 const MatrixTensors& tensors, const Part& part) {
  const auto columns = static_cast<size_t>(shape.columns);
  const int32_t taken = shape.taken_columns.count();
  const int64_t bytes = QuantTileBytes(element, taken);
  pool_.ReserveScratch(size_t{kQuantTileOutputs} * columns * sizeof(float));
  pool_.Run(static_cast<int32_t>(part.end - part.begin), [&](int32_t task, int32_t thread) {
    auto* scratch = reinterpret_cast<float*>(pool_.Scratch(thread));
    std::vector<const float*> rows;
    const int64_t first = (part.begin + task) * kQuantTileOutputs;
    for (int64_t row = first; row < std::min(shape.Rows(), first + kQuantTileOutputs); ++row) {
      const MatrixShape::Place place = shape.PlaceOf(row);
      float* target = scratch + rows.size() * columns;  // all of the row
      tensors.weights[place.part].ReadRow(place.row, target);
      rows.push_back(target + shape.taken_columns.begin);
    }
    PackQuantizedTile(element, rows, taken, part.output + task * bytes);
  });
}

// Scales are those of whole rows, so that a shard's weights are those of the whole matrix.
void CudaWeightReader::ReadFp8Rows(const MatrixShape& shape, const MatrixTensors& tensors,
                                   const Part& part, std::span<float> scales) {
  const auto columns = static_cast<size_t>(shape.columns);
  const auto taken = static_cast<size_t>(shape.taken_columns.count());
  auto* codes = reinterpret_cast<uint8_t*>(part.output);
  pool_.ReserveScratch(columns * (sizeof(float) + 1));
  pool_.Run(static_cast<int32_t>(part.end - part.begin), [&](int32_t task, int32_t thread) {
    auto* scratch = reinterpret_cast<float*>(pool_.Scratch(thread));
    auto* codes_of_row = reinterpret_cast<uint8_t*>(scratch + columns);
    const int64_t row = part.begin + task;
    const MatrixShape::Place place = shape.PlaceOf(row);
    tensors.weights[place.part].ReadRow(place.row, scratch);
    scales[static_cast<size_t>(row)] = RoundRowToE4m3({scratch, columns}, codes_of_row);
    std::copy_n(codes_of_row + shape.taken_columns.begin, taken,
                codes + static_cast<size_t>(task) * taken);
  });
}

CudaWeightReader::Pieces CudaWeightReader::PiecesOf(CudaMatrix* matrix) {
  const auto row_bytes = [&](size_t bytes) { return matrix->k() * static_cast<int64_t>(bytes); };
  switch (matrix->element()) {
    case WeightElement::kInt8:
    case WeightElement::kInt4:
      return {NumQuantTiles(matrix->n()), QuantTileBytes(matrix->element(), matrix->k()),
              matrix->packed().data()};
    case WeightElement::kFp8:
      return {matrix->n(), row_bytes(1), matrix->packed().data()};
    case WeightElement::kBf16:
    case WeightElement::kF32:
      break;
  }
  return {matrix->n(), row_bytes(sizeof(Bf16)),
          reinterpret_cast<std::byte*>(matrix->weights().data())};
}

absl::StatusOr<CudaMatrix> CudaWeightReader::Matrix(const MatrixShape& shape, MatrixUse use) {
  ASSIGN_OR_RETURN(const MatrixTensors tensors, OpenTensors(shape, source_));
  const WeightElement element = ElementFor(use, element_, WeightElement::kBf16);
  const int32_t columns = shape.taken_columns.count();
  // Whole groups, so that they are those of the whole matrix.
  BATON_CHECK(!IsQuantized(element) || shape.taken_columns.begin % kQuantGroup == 0)
      << shape.parts.front().name;
  ASSIGN_OR_RETURN(CudaMatrix matrix,
                   CudaMatrix::Create(static_cast<int32_t>(shape.Rows()), columns, element));
  const bool random = std::ranges::all_of(
      tensors.weights, [](const WeightTensor& tensor) { return tensor.random().has_value(); });
  if (random && element == WeightElement::kBf16 && columns == shape.columns) {
    Fill(shape, tensors, &matrix);
  } else {
    RETURN_IF_ERROR(Upload(shape, tensors, &matrix));
  }
  if (shape.bias) RETURN_IF_ERROR(matrix.SetBias(context_, tensors.bias));
  RETURN_IF_ERROR(context_.status());
  return matrix;
}

// Rows of a part lie one after another, or with those of the others between them.
void CudaWeightReader::Fill(const MatrixShape& shape, const MatrixTensors& tensors,
                            CudaMatrix* matrix) {
  const int64_t columns = shape.columns;
  const bool alternating = shape.order == PartOrder::kAlternating;
  int64_t row = 0;  // of the matrix, where a part begins
  for (size_t part = 0; part < shape.parts.size(); ++part) {
    const ShardRange& taken = shape.parts[part].taken;
    FillRandom(
        context_,
        {.output = matrix->weights().data() + row * columns,
         .row_stride = columns * (alternating ? static_cast<int64_t>(shape.parts.size()) : 1),
         .tensor = *tensors.weights[part].random(),
         .first_row = taken.begin,
         .rows = taken.count(),
         .columns = columns});
    row += alternating ? 1 : taken.count();
  }
}

absl::Status CudaWeightReader::Upload(const MatrixShape& shape, const MatrixTensors& tensors,
                                      CudaMatrix* matrix) {
  const WeightElement element = matrix->element();
  std::vector<float> scales(matrix->scales().size());
  const Pieces pieces = PiecesOf(matrix);
  RETURN_IF_ERROR(ReservePiece(pieces.bytes));
  for (int64_t begin = 0; begin < pieces.count;) {
    Staging& staging = staging_[turn_];
    turn_ = (turn_ + 1) % staging_.size();
    const int64_t fit = static_cast<int64_t>(staging.bytes.size()) / pieces.bytes;
    const int64_t end = std::min(pieces.count, begin + fit);
    const Part part = {begin, end, staging.bytes.data()};
    staging.copied.Wait(context_);
    if (IsQuantized(element)) {
      ReadTiles(element, shape, tensors, part);
    } else if (element == WeightElement::kFp8) {
      ReadFp8Rows(shape, tensors, part, scales);
    } else {
      ReadRows(shape, tensors, part);
    }
    context_.Note(cudaMemcpyAsync(pieces.target + begin * pieces.bytes, staging.bytes.data(),
                                  static_cast<size_t>((end - begin) * pieces.bytes),
                                  cudaMemcpyHostToDevice, context_.stream()),
                  "upload of weights");
    staging.copied.Record(context_);
    begin = end;
  }
  baton::Upload(context_, scales, &matrix->scales());
  return context_.status();
}

absl::Status CudaWeightReader::Finish() {
  RETURN_IF_ERROR(source_.CheckAllUsed());
  return context_.Synchronize();
}

}  // namespace baton
