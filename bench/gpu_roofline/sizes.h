// Which shapes are measured: the one list, for our program and, as JSON, for its peers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/gpu_roofline/work.h"
#include "engine/kernels/cuda/linear.h"

namespace baton::roofline {

std::string Grouped(int32_t number);  // "8,192"

// A forward pass of the whole model.
struct StepShape {
  std::string name;
  int32_t sequences = 0, context = 0, tokens = 0;
  double target_ms = 0;  // 0: none
};

// Attention of one layer.
struct AttentionShape {
  std::string name;
  int32_t sequences = 0, context = 0, tokens = 0;
  int32_t heads = 0, kv_heads = 0, head_dim = 0;
  AttentionWork ToWork() const {
    return {.sequences = double{1} * sequences,
            .context = double{1} * context,
            .tokens = double{1} * tokens,
            .heads = double{1} * heads,
            .kv_heads = double{1} * kv_heads,
            .head_dim = double{1} * head_dim};
  }
};

// One of the model's matrices, and the numbers of rows that it is multiplied with.
struct MatrixShapes {
  std::string name;
  int32_t n = 0, k = 0;
  CudaEpilogue epilogue = CudaEpilogue::kStoreBf16;
  std::vector<int32_t> rows;
  bool is_gated = false;  // by SwiGLU: timed with it, too
};
std::string ProductName(const MatrixShapes& matrix, int32_t rows);

struct Sizes {
  std::string config_path;
  DecoderSizes decoder;
  std::vector<StepShape> steps;
  std::vector<AttentionShape> attention;
  std::vector<MatrixShapes> matrices;
  std::vector<int32_t> op_rows;       // of ops bound by memory
  int32_t rows_of_target = 0;         // from this on they are to reach their share of a copy's rate
  std::vector<int32_t> sampled_rows;  // of draws
  std::vector<int32_t> copied_blocks;  // of the KV cache, in all layers
  size_t copy_bytes = 0;               // of the ceilings
  int32_t large_product = 0;           // rows, outputs and inputs of it
  int64_t upload_bytes = 0;            // of weights that come from the host
  bool tunes_steps = true;             // products are tuned for them
  // How often, and for how long.
  double warm_up_ms = 0;  // of work before the first sample of a process
  int32_t repeats = 0;
  double sample_ms = 0;      // launches of a sample take about as long
  size_t flushed_bytes = 0;  // arrays are taken in turn until as many were touched
};

// `config_path`: the model's config.json. `l2_bytes`: of the device. Quick: small enough for the
// emulation.
absl::StatusOr<Sizes> MakeSizes(const std::string& config_path, bool quick, int64_t l2_bytes);

// For peers: the steps, attention and products, with the rows' names.
std::string SizesJson(const Sizes& sizes);
// Of that what a program takes that measures attention alone: its shapes, how often and for how
// long. INVALID_ARGUMENT says what is wrong.
absl::StatusOr<Sizes> AttentionSizesFromJson(const std::string& text);

}  // namespace baton::roofline
