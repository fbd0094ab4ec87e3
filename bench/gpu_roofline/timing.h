// Times of launches, as the device sees them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "bench/gpu_roofline/sizes.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/device_array.h"

namespace baton::roofline {

// Keeps the device busy for sizes.warm_up_ms: clocks of one that was idle take a while to rise.
absl::Status WarmUp(const CudaContext& context, const Sizes& sizes);

// How many arrays of `bytes` are to be taken in turn, so that none is still in the cache when it is
// used again.
int32_t SetsFor(const Sizes& sizes, double bytes);

// ms of one launch, `sizes.repeats` of them. `launch` enqueues the launch that uses the set it is
// given, one of `sets`, and only that. Each set runs once before; then as many launches as take
// about sizes.sample_ms are captured as one graph, so that the host's part does not show, and each
// sample is a start of it divided by their number.
absl::StatusOr<std::vector<double>> TimeLaunches(const CudaContext& context, const Sizes& sizes,
                                                 int32_t sets,
                                                 absl::FunctionRef<void(int32_t set)> launch);

// [rows, columns] of random numbers, evenly spread over ±1, other ones for each seed. `columns`: a
// multiple of 8.
absl::StatusOr<DeviceArray<Bf16>> RandomBf16(const CudaContext& context, uint64_t seed,
                                             int64_t rows, int64_t columns);
// The same numbers in f32.
absl::StatusOr<DeviceArray<float>> RandomF32(const CudaContext& context, uint64_t seed,
                                             int64_t rows, int64_t columns);

// What `values` say, on the device once the context was waited for.
template <typename T>
absl::StatusOr<DeviceArray<T>> OnDevice(const CudaContext& context, const std::vector<T>& values) {
  absl::StatusOr<DeviceArray<T>> array = DeviceArray<T>::Create(values.size());
  if (!array.ok()) return array.status();
  Upload(context, values, &*array);
  return array;
}

}  // namespace baton::roofline
