#include <string>
#include <vector>

#include "bench/gpu_roofline/parts.h"
#include "bench/gpu_roofline/timing.h"
#include "common/check.h"
#include "engine/kernels/cuda/fill_random.h"

namespace baton::roofline {
namespace {

// As many alike matrices as it takes to flush the cache between two uses of one.
absl::StatusOr<std::vector<CudaMatrix>> MakeMatrices(const CudaContext& context, const Sizes& sizes,
                                                     const MatrixShapes& shape) {
  std::vector<CudaMatrix> matrices;
  const int32_t sets = SetsFor(sizes, kBf16Bytes * shape.n * shape.k);
  for (int32_t set = 0; set < sets; ++set) {
    ASSIGN_OR_RETURN(CudaMatrix matrix, CudaMatrix::Create(shape.n, shape.k));
    FillRandom(context, {.output = matrix.weights().data(),
                         .row_stride = shape.k,
                         .tensor = {.seed = static_cast<uint64_t>(set), .radius = 0.02f},
                         .rows = shape.n,
                         .columns = shape.k});
    matrices.push_back(std::move(matrix));
  }
  RETURN_IF_ERROR(context.Synchronize());
  return matrices;
}

absl::StatusOr<std::vector<double>> TimeProduct(const CudaContext& context, const Sizes& sizes,
                                                const std::vector<CudaMatrix>& matrices,
                                                CudaEpilogue epilogue, int32_t rows,
                                                bool batch_invariant) {
  const CudaMatrix& first = matrices.front();
  const int64_t outputs = int64_t{rows} * first.n();
  DeviceArray<Bf16> pairs;
  ASSIGN_OR_RETURN(const auto input, RandomBf16(context, 1, rows, first.k()));
  ASSIGN_OR_RETURN(auto output, DeviceArray<float>::Create(static_cast<size_t>(outputs)));
  if (epilogue == CudaEpilogue::kSiluMul) {
    ASSIGN_OR_RETURN(pairs, DeviceArray<Bf16>::Create(static_cast<size_t>(outputs)));
  }
  context.Note(cudaMemsetAsync(output.data(), 0, output.bytes(), context.stream()), "zeros");
  CudaLinear linear(context, {.batch_invariant = batch_invariant, .own_few_rows = false});
  const int32_t tuned[] = {rows};
  RETURN_IF_ERROR(linear.TunePlans(first, epilogue, tuned));
  return TimeLaunches(context, sizes, static_cast<int32_t>(matrices.size()), [&](int32_t set) {
    linear.Run({.input = input.data(),
                .weights = &matrices[static_cast<size_t>(set)],
                .epilogue = epilogue,
                .output = output.data(),
                .pairs = pairs.data(),
                .rows = rows});
  });
}

// Products of `rows` rows, by the library and by our kernels.
void MeasureWays(const CudaContext& context, const Sizes& sizes, const std::string& name,
                 const Work& work, const absl::StatusOr<std::vector<CudaMatrix>>& matrices,
                 CudaEpilogue epilogue, int32_t rows, Recorder* recorder) {
  for (const bool batch_invariant : {false, true}) {
    recorder->Add(
        {.name = name, .work = work, .variant = batch_invariant ? "batch-invariant" : "cuBLASLt"},
        matrices.ok() ? TimeProduct(context, sizes, *matrices, epilogue, rows, batch_invariant)
                      : matrices.status());
  }
}

}  // namespace

absl::Status MeasureProducts(const CudaContext& context, const Sizes& sizes, Recorder* recorder) {
  for (const MatrixShapes& shape : sizes.matrices) {
    const absl::StatusOr<std::vector<CudaMatrix>> matrices = MakeMatrices(context, sizes, shape);
    const bool is_f32 = shape.epilogue != CudaEpilogue::kStoreBf16;
    for (const int32_t rows : shape.rows) {
      const ProductWork work{.m = double{1} * rows,
                             .n = double{1} * shape.n,
                             .k = double{1} * shape.k,
                             .output_bytes = is_f32 ? kF32Bytes : kBf16Bytes,
                             .adds = shape.epilogue == CudaEpilogue::kAddToF32};
      const std::string name = ProductName(shape, rows);
      MeasureWays(context, sizes, name, Count(work), matrices, shape.epilogue, rows, recorder);
      if (!shape.is_gated) continue;
      ProductWork gated = work;
      gated.output_bytes = kBf16Bytes / 2;  // one number for two
      MeasureWays(context, sizes, name + ", gated", Count(gated), matrices, CudaEpilogue::kSiluMul,
                  rows, recorder);
    }
  }
  return context.status();
}

}  // namespace baton::roofline
