#include <algorithm>
#include <memory>
#include <thread>

#include "bench/gpu_roofline/parts.h"
#include "bench/gpu_roofline/timing.h"
#include "common/check.h"
#include "common/clock.h"
#include "engine/kernels/cuda/fill_random.h"
#include "engine/model/cuda/cuda_weights.h"
#include "engine/model/weight_source.h"

namespace baton::roofline {
namespace {

// One bf16 tensor in the host's memory, whatever its name.
class OneTensor final : public WeightSource {
 public:
  OneTensor(int64_t rows, int64_t columns) : numbers_(static_cast<size_t>(rows * columns)) {
    const WeightTensor random = WeightTensor::Random({.seed = 1, .radius = 1.0f}, columns);
    for (int64_t row = 0; row < rows; ++row) {
      // A few rows again and again: what they are does not matter, that memory was written does.
      random.ReadRow(row % 64, numbers_.data() + row * columns);
    }
  }
  absl::StatusOr<WeightTensor> Get(const std::string& /*name*/, WeightRole /*role*/,
                                   int64_t /*rows*/, int64_t columns) override {
    return WeightTensor::Stored(reinterpret_cast<const std::byte*>(numbers_.data()),
                                WeightDtype::kBf16, columns);
  }
  absl::Status CheckAllUsed() const override { return absl::OkStatus(); }
  uint64_t Fingerprint(ComputePool* /*pool*/) const override { return 0; }
  std::string Identity() const override { return ""; }
  std::string dtype_name() const override { return "bf16"; }

 private:
  std::vector<Bf16> numbers_;
};

absl::StatusOr<std::vector<double>> TimeLoad(const CudaContext& context, const Sizes& sizes,
                                             int64_t rows, int32_t columns) {
  const auto threads =
      static_cast<int32_t>(std::clamp(std::thread::hardware_concurrency(), 1u, 16u));
  ASSIGN_OR_RETURN(const auto pool, ComputePool::Create(threads, {}));
  OneTensor source(rows, columns);
  ASSIGN_OR_RETURN(const auto reader, CudaWeightReader::Create(context, &source, pool.get()));
  const auto count = static_cast<int32_t>(rows);
  const MatrixShape shape{.parts = {{.name = "matrix", .rows = count, .taken = {0, count}}},
                          .columns = columns,
                          .taken_columns = {0, columns}};
  const MonotonicClock clock;
  std::vector<double> samples_ms;
  for (int32_t repeat = 0; repeat <= std::min(sizes.repeats, 5); ++repeat) {
    const absl::Time begin = clock.Now();
    ASSIGN_OR_RETURN(const CudaMatrix matrix, reader->Matrix(shape, MatrixUse::kProjection));
    RETURN_IF_ERROR(reader->Finish());
    if (repeat > 0) samples_ms.push_back(absl::ToDoubleMilliseconds(clock.Now() - begin));
  }
  return samples_ms;
}

absl::StatusOr<std::vector<double>> TimeFill(const CudaContext& context, const Sizes& sizes,
                                             int64_t rows, int32_t columns) {
  ASSIGN_OR_RETURN(auto output, DeviceArray<Bf16>::Create(static_cast<size_t>(rows * columns)));
  return TimeLaunches(context, sizes, 1, [&](int32_t) {
    FillRandom(context, {.output = output.data(),
                         .row_stride = columns,
                         .tensor = {.seed = 1, .radius = 1.0f},
                         .rows = rows,
                         .columns = columns});
  });
}

}  // namespace

absl::Status MeasureLoad(const CudaContext& context, const Sizes& sizes, Recorder* recorder) {
  const int32_t columns = sizes.decoder.hidden;
  const auto bytes = static_cast<double>(sizes.upload_bytes);
  const int64_t rows = sizes.upload_bytes / (columns * int64_t{sizeof(Bf16)}) / 8 * 8;
  recorder->Add(
      {.name = "load from the host's memory, with cudaMalloc", .work = {.bus_bytes = bytes}},
      TimeLoad(context, sizes, rows, columns));
  recorder->Add({.name = "dummy weights made on the device", .work = {.bytes = bytes}},
                TimeFill(context, sizes, rows, columns));
  return context.status();
}

}  // namespace baton::roofline
