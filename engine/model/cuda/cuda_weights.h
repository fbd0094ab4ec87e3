// How a model's weights come into device memory: matrices in bf16 as Hugging Face stores them, or
// rounded to int8, int4 or fp8 on the way, norms in f32.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/compute_pool.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kernels/cuda/event.h"
#include "engine/kernels/cuda/linear.h"
#include "engine/kernels/kernel_table.h"
#include "engine/model/weight_loader.h"

namespace baton {

using CudaLayerWeights = LayerWeightsOf<DeviceArray<float>, CudaMatrix>;
using CudaModelWeights = ModelWeightsOf<DeviceArray<float>, CudaMatrix>;

// Reads rows, or tiles of quantized ones, into two pinned buffers in turn, on the pool: while one
// is filled the device copies the other. Random bf16 matrices are made on the device, with the bits
// that the host would make. What it returns is there after Finish. Borrows all it is made of.
class CudaWeightReader final : public WeightReader<DeviceArray<float>, CudaMatrix> {
 public:
  static constexpr size_t kStagingBytes = size_t{16} << 20;  // of one buffer

  // `element`: what is asked for, see ElementFor; not f32. `staging_bytes`: for tests.
  static absl::StatusOr<std::unique_ptr<CudaWeightReader>> Create(
      const CudaContext& context, WeightSource* source, ComputePool* pool,
      WeightElement element = WeightElement::kBf16, size_t staging_bytes = kStagingBytes);

  absl::StatusOr<DeviceArray<float>> Vector(const std::string& name, WeightRole role,
                                            int64_t size) override;
  // INVALID_ARGUMENT: a size that CudaMatrix does not take.
  absl::StatusOr<CudaMatrix> Matrix(const MatrixShape& shape, MatrixUse use) override;
  absl::Status Finish() override;

 private:
  struct Staging {
    PinnedArray<std::byte> bytes;
    CudaEvent copied;  // the last copy out of it
  };
  // Of a matrix in memory, one after another: rows, or tiles.
  struct Pieces {
    int64_t count = 0;
    int64_t bytes = 0;  // of one
    std::byte* target = nullptr;
  };
  static Pieces PiecesOf(CudaMatrix* matrix);
  CudaWeightReader(const CudaContext& context, WeightSource* source, ComputePool* pool,
                   WeightElement element)
      : context_(context), source_(*source), pool_(*pool), element_(element) {}

  absl::Status ReservePiece(int64_t bytes);
  // All of `shape` through the staging.
  absl::Status Upload(const MatrixShape& shape, const MatrixTensors& tensors, CudaMatrix* matrix);
  void Fill(const MatrixShape& shape, const MatrixTensors& tensors, CudaMatrix* matrix);
  // Pieces [begin, end), to be written to `output`.
  struct Part {
    int64_t begin = 0;
    int64_t end = 0;
    std::byte* output = nullptr;
  };
  void ReadRows(const MatrixShape& shape, const MatrixTensors& tensors, const Part& part);
  // `scales`: of all rows.
  void ReadFp8Rows(const MatrixShape& shape, const MatrixTensors& tensors, const Part& part,
                   std::span<float> scales);
  void ReadTiles(WeightElement element, const MatrixShape& shape, const MatrixTensors& tensors,
                 const Part& part);

  const CudaContext& context_;
  WeightSource& source_;
  ComputePool& pool_;
  const WeightElement element_;
  std::array<Staging, 2> staging_;
  size_t turn_ = 0;  // the buffer to fill next
};

}  // namespace baton
