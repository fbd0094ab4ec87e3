// Of draws only the launches are timed: rows and logits lie on the device.
#include "engine/kernels/cuda/sampling.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/gpu_roofline/parts.h"
#include "bench/gpu_roofline/timing.h"
#include "common/check.h"

namespace baton::roofline {
namespace {

absl::StatusOr<std::vector<double>> TimeSampling(const CudaContext& context, const Sizes& sizes,
                                                 int32_t rows, const CudaSampleRow& settings) {
  const int32_t vocab = sizes.decoder.vocab;
  const int32_t sets = SetsFor(sizes, CountSampling(rows, vocab).bytes);
  std::vector<CudaSampleRow> all(static_cast<size_t>(rows), settings);
  for (size_t row = 0; row < all.size(); ++row) {
    all[row].seed = row;
    all[row].logits_row = static_cast<int32_t>(row);
  }
  ASSIGN_OR_RETURN(const auto logits, RandomF32(context, 1, int64_t{rows} * sets, vocab));
  ASSIGN_OR_RETURN(const auto device_rows, OnDevice(context, all));
  ASSIGN_OR_RETURN(auto drawn, DeviceArray<CudaDrawnToken>::Create(all.size()));
  ASSIGN_OR_RETURN(auto scratch, DeviceArray<std::byte>::Create(SamplingScratchBytes(rows, vocab)));
  return TimeLaunches(context, sizes, sets, [&](int32_t set) {
    SampleTokens(context, {.logits = logits.data() + int64_t{set} * rows * vocab,
                           .rows = device_rows.data(),
                           .drawn = drawn.data(),
                           .scratch = scratch.data(),
                           .num_rows = rows,
                           .vocab_size = vocab});
  });
}

}  // namespace

absl::Status MeasureSampling(const CudaContext& context, const Sizes& sizes, Recorder* recorder) {
  const std::pair<const char*, CudaSampleRow> kinds[] = {
      {"greedy", {}},
      {"temperature", {.scale = 1.0f}},
      {"top-k 50, top-p 0.95", {.scale = 1.0f, .top_p = 0.95f, .top_k = 50}},
  };
  for (const auto& [kind, settings] : kinds) {
    for (const int32_t rows : sizes.sampled_rows) {
      recorder->Add({.name = absl::StrCat("sampling ", kind, ", ", rows, " rows"),
                     .work = CountSampling(rows, sizes.decoder.vocab),
                     .target_share = rows > 1 ? 0.85 : 0},
                    TimeSampling(context, sizes, rows, settings));
    }
  }
  return context.status();
}

}  // namespace baton::roofline
