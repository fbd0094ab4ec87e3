#include "engine/kernels/cuda/attention.h"

#include "bench/gpu_roofline/attention_data.h"
#include "bench/gpu_roofline/parts.h"
#include "bench/gpu_roofline/timing.h"
#include "common/check.h"

namespace baton::roofline {
namespace {

absl::StatusOr<std::vector<double>> TimeAttention(const CudaContext& context, const Sizes& sizes,
                                                  const AttentionShape& shape, bool wgmma) {
  ASSIGN_OR_RETURN(AttentionData data, MakeAttentionData(context, sizes, shape));
  return TimeLaunches(context, sizes, data.sets,
                      [&](int32_t set) { RunAttention(context, &data, wgmma, set); });
}

}  // namespace

absl::Status MeasureAttention(const CudaContext& context, const Sizes& sizes, Recorder* recorder) {
  for (const AttentionShape& shape : sizes.attention) {
    Row row{.name = shape.name, .work = Count(shape.ToWork())};
    const bool has_wgmma = shape.tokens > 1 && HasWgmmaAttention(context.info(), shape.head_dim);
    if (has_wgmma) row.variant = "mma.sync";
    recorder->Add(row, TimeAttention(context, sizes, shape, /*wgmma=*/false));
    if (!has_wgmma) continue;
    row.variant = "wgmma";
    recorder->Add(row, TimeAttention(context, sizes, shape, /*wgmma=*/true));
  }
  return context.status();
}

}  // namespace baton::roofline
