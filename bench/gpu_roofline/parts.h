// What is measured, a function for each process. An error that only one row has is in that row, and
// the others follow; what they return is an error that ends the part, as one of the device does.
#pragma once

#include "absl/status/status.h"
#include "bench/gpu_roofline/recorder.h"
#include "bench/gpu_roofline/sizes.h"
#include "engine/kernels/cuda/context.h"

namespace baton::roofline {

// What others are held against: a copy in device memory, a large product, a copy from the host.
absl::Status MeasureCeilings(const CudaContext& context, const Sizes& sizes, Recorder* recorder);
// The ops that are bound by memory.
absl::Status MeasureRowOps(const CudaContext& context, const Sizes& sizes, Recorder* recorder);
// Draws of tokens.
absl::Status MeasureSampling(const CudaContext& context, const Sizes& sizes, Recorder* recorder);
absl::Status MeasureAttention(const CudaContext& context, const Sizes& sizes, Recorder* recorder);
absl::Status MeasureProducts(const CudaContext& context, const Sizes& sizes, Recorder* recorder);
// Weights from the host's memory, as of a file that is cached, and made on the device.
absl::Status MeasureLoad(const CudaContext& context, const Sizes& sizes, Recorder* recorder);
// Whole steps of a model with dummy weights; it makes a context of its own.
enum class StepWay {
  kDefault,
  kNoGraphs,   // only decode, which else is started as graphs
  kDependent,  // only decode, kernels that start before others ended, and only where they can
  kWgmma,      // only prompts, and only where attention can be by wgmma
};
absl::Status MeasureSteps(const CudaContext& context, const Sizes& sizes, StepWay way,
                          Recorder* recorder);

}  // namespace baton::roofline
