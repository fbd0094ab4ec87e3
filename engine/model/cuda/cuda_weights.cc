#include "engine/model/cuda/cuda_weights.h"

#include <algorithm>
#include <span>
#include <utility>

#include "common/check.h"

namespace baton {
namespace {

constexpr int64_t kNumbersOfTask = 64 << 10;  // at least, of one task on the pool

}  // namespace

absl::StatusOr<std::unique_ptr<CudaWeightReader>> CudaWeightReader::Create(
    const CudaContext& context, WeightSource* source, ComputePool* pool, size_t staging_bytes) {
  std::unique_ptr<CudaWeightReader> reader(new CudaWeightReader(context, source, pool));
  for (Staging& staging : reader->staging_) {
    ASSIGN_OR_RETURN(staging.numbers, PinnedArray<Bf16>::Create(staging_bytes / sizeof(Bf16)));
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

absl::Status CudaWeightReader::ReserveRow(int32_t columns) {
  const auto numbers = static_cast<size_t>(columns);
  for (Staging& staging : staging_) {
    if (staging.numbers.size() >= numbers) continue;
    staging.copied.Wait(context_);
    ASSIGN_OR_RETURN(staging.numbers, PinnedArray<Bf16>::Create(numbers));
  }
  return absl::OkStatus();
}

void CudaWeightReader::ReadRows(const MatrixShape& shape, const MatrixTensors& tensors,
                                int64_t begin, int64_t end, Bf16* output) {
  const int64_t columns = shape.columns;
  const int64_t rows_of_task = std::max<int64_t>(1, kNumbersOfTask / columns);
  const int64_t tasks = (end - begin + rows_of_task - 1) / rows_of_task;
  pool_.Run(static_cast<int32_t>(tasks), [&](int32_t task, int32_t /*thread*/) {
    const int64_t first = begin + task * rows_of_task;
    for (int64_t row = first; row < std::min(end, first + rows_of_task); ++row) {
      const MatrixShape::Place place = shape.PlaceOf(row);
      tensors.weights[place.part].ReadRow(place.row, output + (row - begin) * columns);
    }
  });
}

absl::StatusOr<CudaMatrix> CudaWeightReader::Matrix(const MatrixShape& shape, MatrixUse /*use*/) {
  BATON_CHECK(shape.taken_columns.begin == 0 && shape.taken_columns.end == shape.columns)
      << shape.parts.front().name;
  ASSIGN_OR_RETURN(const MatrixTensors tensors, OpenTensors(shape, source_));
  const int64_t rows = shape.Rows();
  const int64_t columns = shape.columns;
  ASSIGN_OR_RETURN(CudaMatrix matrix,
                   CudaMatrix::Create(static_cast<int32_t>(rows), shape.columns));
  RETURN_IF_ERROR(ReserveRow(shape.columns));
  for (int64_t begin = 0; begin < rows;) {
    Staging& staging = staging_[turn_];
    turn_ = (turn_ + 1) % staging_.size();
    const int64_t end =
        std::min(rows, begin + static_cast<int64_t>(staging.numbers.size()) / columns);
    staging.copied.Wait(context_);
    ReadRows(shape, tensors, begin, end, staging.numbers.data());
    context_.Note(cudaMemcpyAsync(matrix.weights().data() + begin * columns, staging.numbers.data(),
                                  static_cast<size_t>((end - begin) * columns) * sizeof(Bf16),
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
