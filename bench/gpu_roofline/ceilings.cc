#include "bench/gpu_roofline/parts.h"

#include <utility>

#include "bench/gpu_roofline/timing.h"
#include "common/check.h"

namespace baton::roofline {
namespace {

absl::StatusOr<std::vector<double>> TimeCopy(const CudaContext& context, const Sizes& sizes) {
  constexpr int64_t kColumns = 1024;
  const auto numbers = static_cast<int64_t>(sizes.copy_bytes / 2 / sizeof(Bf16));
  ASSIGN_OR_RETURN(const auto from, RandomBf16(context, 1, numbers / kColumns, kColumns));
  ASSIGN_OR_RETURN(auto to, DeviceArray<Bf16>::Create(from.size()));
  return TimeLaunches(context, sizes, 1, [&](int32_t) {
    context.Note(cudaMemcpyAsync(to.data(), from.data(), from.bytes(), cudaMemcpyDeviceToDevice,
                                 context.stream()),
                 "copy");
  });
}

absl::StatusOr<std::vector<double>> TimeUpload(const CudaContext& context, const Sizes& sizes) {
  const auto bytes = static_cast<size_t>(sizes.upload_bytes) / 4;
  ASSIGN_OR_RETURN(const auto from, PinnedArray<std::byte>::Create(bytes));
  ASSIGN_OR_RETURN(auto to, DeviceArray<std::byte>::Create(bytes));
  return TimeLaunches(context, sizes, 1, [&](int32_t) {
    context.Note(
        cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyHostToDevice, context.stream()),
        "upload");
  });
}

absl::StatusOr<std::vector<double>> TimeLargeProduct(const CudaContext& context,
                                                     const Sizes& sizes) {
  const int32_t size = sizes.large_product;
  ASSIGN_OR_RETURN(CudaMatrix matrix, CudaMatrix::Create(size, size));
  ASSIGN_OR_RETURN(const auto numbers, RandomBf16(context, 2, size, size));
  context.Note(cudaMemcpyAsync(matrix.weights().data(), numbers.data(), numbers.bytes(),
                               cudaMemcpyDeviceToDevice, context.stream()),
               "copy");
  ASSIGN_OR_RETURN(const auto input, RandomBf16(context, 3, size, size));
  ASSIGN_OR_RETURN(auto output, DeviceArray<Bf16>::Create(input.size()));
  CudaLinear linear(context);
  const int32_t rows[] = {size};
  RETURN_IF_ERROR(linear.TunePlans(matrix, CudaEpilogue::kStoreBf16, rows));
  return TimeLaunches(context, sizes, 1, [&](int32_t) {
    linear.Run({.input = input.data(),
                .weights = &matrix,
                .epilogue = CudaEpilogue::kStoreBf16,
                .output = output.data(),
                .rows = size});
  });
}

}  // namespace

absl::Status MeasureCeilings(const CudaContext& context, const Sizes& sizes, Recorder* recorder) {
  const double size = sizes.large_product;
  recorder->Add({.name = kCopyRow, .work = CountCopy(static_cast<double>(sizes.copy_bytes / 2))},
                TimeCopy(context, sizes));
  recorder->Add({.name = kProductRow, .work = Count(ProductWork{.m = size, .n = size, .k = size})},
                TimeLargeProduct(context, sizes));
  recorder->Add(
      {.name = kUploadRow, .work = {.bus_bytes = static_cast<double>(sizes.upload_bytes / 4)}},
      TimeUpload(context, sizes));
  return context.status();
}

}  // namespace baton::roofline
