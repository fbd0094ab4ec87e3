// The op implementations of one instruction set: what the op headers dispatch to.
//
// Each op is a header here (its contract) and a file in cpu/ that is compiled once per instruction
// set, with that set's compiler flags. A table is chosen when a model loads. Entries work on a
// range and on one thread; the op functions split the range over the pool. Where a range is cut
// never changes a result, so results do not depend on the number of threads.
#pragma once

#include <cstdint>

#include "engine/kernels/bf16.h"
#include "engine/kernels/compute_pool.h"
#include "engine/kernels/isa.h"

namespace baton {

struct AttentionArgs;
struct AttentionMerge;
struct AttentionTask;
struct HeadNormArgs;
struct KvWriteArgs;
struct LinearArgs;
struct LinearTile;
struct OpTimes;
struct QuantizeArgs;
struct QuantizedRows;
struct RmsNormArgs;
struct RopeArgs;

// What the GEMM inputs are rounded to; everything else between ops is f32. bf16 only where the CPU
// multiplies bf16: elsewhere f32 costs the same and is more exact.
enum class ActivationDtype { kBf16, kF32 };
constexpr int64_t ActivationBytes(ActivationDtype dtype) {
  return dtype == ActivationDtype::kBf16 ? 2 : 4;
}

// What weights are in memory. int8 and int4: in groups with a scale each, see quantize.h. fp8: e4m3
// with a scale for each output, on CUDA only.
enum class WeightElement { kBf16, kF32, kInt8, kInt4, kFp8 };
constexpr bool IsQuantized(WeightElement element) {
  return element == WeightElement::kInt8 || element == WeightElement::kInt4;
}

// How a weight matrix is laid out for the GEMM: see PackedMatrix.
struct PackFormat {
  WeightElement element = WeightElement::kBf16;
  int32_t panel_columns = 0;  // output columns that one panel holds
  int32_t lanes = 0;          // the last panel is rounded up to this many columns
  int32_t k_step = 1;         // consecutive inputs stored together
};

// What touches the KV cache.
struct KvOps {
  void (*write)(const KvWriteArgs& args, int32_t row_begin, int32_t row_end);
  // `scratch`: AttentionScratchBytes of the head_dim. `partial`: the task's, if it has one.
  void (*attention)(const AttentionArgs& args, const AttentionTask& task, std::byte* scratch,
                    std::byte* partial);
};

struct KernelTable {
  Isa isa;
  ActivationDtype activation;
  PackFormat pack;  // of weights that are not quantized
  // The same panels of another element.
  PackFormat PackOf(WeightElement element) const {
    PackFormat format = pack;
    format.element = element;
    if (IsQuantized(element)) format.k_step = 4;
    return format;
  }

  void (*rms_norm)(const RmsNormArgs& args, int32_t row_begin, int32_t row_end);
  void (*head_norm)(const HeadNormArgs& args, int32_t row_begin, int32_t row_end);
  void (*linear)(const LinearArgs& args, const LinearTile& tile);
  void (*quantize)(const QuantizeArgs& args, int32_t row_begin, int32_t row_end);
  void (*quantized_linear)(const LinearArgs& args, const QuantizedRows& input,
                           const LinearTile& tile);
  void (*rope)(const RopeArgs& args, int32_t row_begin, int32_t row_end);
  KvOps kv;       // on a cache of bf16, or f32 in f32 mode
  KvOps int8_kv;  // on one of int8
  // `partials`: the merge's, `partial_bytes` apart.
  void (*merge_attention)(const AttentionArgs& args, const AttentionMerge& merge,
                          std::byte* scratch, std::byte* partials, int64_t partial_bytes);
};

// Lives as long as the process. `f32`: f32 weights, activations and KV; else bf16 weights and KV.
const KernelTable& GetKernels(Isa isa, bool f32);

// What every op needs to run.
struct OpContext {
  const KernelTable& kernels;
  ComputePool& pool;
  OpTimes* times = nullptr;  // where the op functions add what they take; null: not measured
};

}  // namespace baton
