// A weight matrix in device memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kernels/kernel_table.h"

namespace baton {

// n outputs of k inputs each. bf16 as Hugging Face stores it, int8 and int4 as in
// quantized_weights.h, fp8 as bf16 but e4m3 with a scale for each output.
class CudaMatrix {
 public:
  // Not initialised. INVALID_ARGUMENT: n or k is not a positive multiple of 8; of 16 with fp8.
  // REQUIRES: not f32.
  static absl::StatusOr<CudaMatrix> Create(int32_t n, int32_t k,
                                           WeightElement element = WeightElement::kBf16);

  int32_t n() const { return n_; }
  int32_t k() const { return k_; }
  WeightElement element() const { return element_; }
  int64_t bytes() const {  // without the bias
    return static_cast<int64_t>(weights_.bytes() + packed_.bytes() + scales_.bytes());
  }
  DeviceArray<Bf16>& weights() { return weights_; }  // [n, k] bf16; else empty
  const DeviceArray<Bf16>& weights() const { return weights_; }
  // int8 and int4: [NumQuantTiles(n)] tiles; fp8: [n, k] e4m3; else empty.
  DeviceArray<std::byte>& packed() { return packed_; }
  const DeviceArray<std::byte>& packed() const { return packed_; }
  DeviceArray<float>& scales() { return scales_; }  // fp8: [n] f32; else empty
  const DeviceArray<float>& scales() const { return scales_; }

  // `bias`: [n]. Kept in f32 and rounded to bf16: the library adds the dtype of the output.
  absl::Status SetBias(const CudaContext& context, std::span<const float> bias);
  bool has_bias() const { return bias_.size() > 0; }
  const float* bias() const { return bias_.data(); }                 // [n] f32, or null
  const Bf16* rounded_bias() const { return rounded_bias_.data(); }  // [n] bf16, or null

 private:
  int32_t n_ = 0;
  int32_t k_ = 0;
  WeightElement element_ = WeightElement::kBf16;
  DeviceArray<Bf16> weights_;
  DeviceArray<std::byte> packed_;
  DeviceArray<float> scales_;
  DeviceArray<float> bias_;
  DeviceArray<Bf16> rounded_bias_;
};

}  // namespace baton
