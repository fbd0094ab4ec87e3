#include "engine/kernels/cuda/attention.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/gpu_roofline/attention_data.h"
#include "bench/gpu_roofline/parts.h"
#include "bench/gpu_roofline/timing.h"
#include "common/check.h"

namespace baton::roofline {
namespace {

absl::StatusOr<std::vector<double>> TimeAttention(const CudaContext& context, const Sizes& sizes,
                                                  absl::StatusOr<AttentionData>* data,
                                                  const AttentionWay& way) {
  RETURN_IF_ERROR(data->status());
  return TimeLaunches(context, sizes, (*data)->sets,
                      [&](int32_t set) { RunAttention(context, &**data, way, set); });
}

// The way that steps take is the first.
std::vector<AttentionWay> WaysFor(const CudaContext& context, const AttentionShape& shape) {
  std::vector<AttentionWay> ways = {{}};
  if (shape.tokens > 1 && HasWgmmaAttention(context.info(), shape.head_dim)) {
    ways.push_back({.wgmma = true});
  }
  for (int32_t shorter = kKeyRangeLog2 - 1; shorter >= kShortestKeyRangeLog2; --shorter) {
    ways.push_back({.key_range_log2 = shorter});
  }
  return ways;
}

std::string NameOf(const AttentionShape& shape, const AttentionWay& way) {
  if (way.key_range_log2 != kKeyRangeLog2) {
    return absl::StrCat("ranges of ", 1 << way.key_range_log2);
  }
  return way.wgmma ? "wgmma" : shape.tokens > 1 ? "mma.sync" : "";
}

}  // namespace

absl::Status MeasureAttention(const CudaContext& context, const Sizes& sizes, Recorder* recorder) {
  for (const AttentionShape& shape : sizes.attention) {
    absl::StatusOr<AttentionData> data = MakeAttentionData(context, sizes, shape);
    for (const AttentionWay& way : WaysFor(context, shape)) {
      recorder->Add(
          {.name = shape.name, .work = Count(shape.ToWork()), .variant = NameOf(shape, way)},
          TimeAttention(context, sizes, &data, way));
    }
  }
  return context.status();
}

}  // namespace baton::roofline
