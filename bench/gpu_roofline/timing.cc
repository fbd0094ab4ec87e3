#include "bench/gpu_roofline/timing.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/time/time.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/ids.h"
#include "engine/kernels/cuda/embedding.h"
#include "engine/kernels/cuda/fill_random.h"
#include "engine/kernels/cuda/graph.h"
#include "engine/kernels/cuda/timer.h"

namespace baton::roofline {
namespace {

constexpr int32_t kMostSets = 512;
constexpr int32_t kMostLaunches = 512;  // of one sample
static_assert(kMostSets <= kMostLaunches);

// Of `launches` from set 0 on, without a graph.
absl::StatusOr<double> TimeOnce(const CudaContext& context, const CudaTimer& timer,
                                int32_t launches, int32_t sets,
                                absl::FunctionRef<void(int32_t set)> launch) {
  timer.Start(context);
  for (int32_t i = 0; i < launches; ++i) launch(i % sets);
  timer.Stop(context);
  const double elapsed_ms = timer.ElapsedMs(context);
  RETURN_IF_ERROR(context.Synchronize());
  return elapsed_ms;
}

}  // namespace

absl::Status WarmUp(const CudaContext& context, const Sizes& sizes) {
  if (sizes.warm_up_ms == 0) return absl::OkStatus();
  constexpr size_t kBytes = size_t{64} << 20;
  constexpr int kCopiesAtOnce = 32;
  ASSIGN_OR_RETURN(const auto from, DeviceArray<std::byte>::Create(kBytes));
  ASSIGN_OR_RETURN(auto to, DeviceArray<std::byte>::Create(kBytes));
  const MonotonicClock clock;
  const absl::Time end = clock.Now() + absl::Milliseconds(sizes.warm_up_ms);
  while (clock.Now() < end) {
    for (int i = 0; i < kCopiesAtOnce; ++i) {
      context.Note(cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice,
                                   context.stream()),
                   "warm up");
    }
    RETURN_IF_ERROR(context.Synchronize());
  }
  return absl::OkStatus();
}

int32_t SetsFor(const Sizes& sizes, double bytes) {
  const double sets = std::ceil(static_cast<double>(sizes.flushed_bytes) / std::max(bytes, 1.0));
  return static_cast<int32_t>(std::clamp(sets, 1.0, double{kMostSets}));
}

absl::StatusOr<std::vector<double>> TimeLaunches(const CudaContext& context, const Sizes& sizes,
                                                 int32_t sets,
                                                 absl::FunctionRef<void(int32_t set)> launch) {
  ASSIGN_OR_RETURN(const CudaTimer timer, CudaTimer::Create());
  // The first loads code and finds out what fails; the second tells how long it takes.
  RETURN_IF_ERROR(TimeOnce(context, timer, sets, sets, launch).status());
  ASSIGN_OR_RETURN(const double sets_ms, TimeOnce(context, timer, sets, sets, launch));
  // All sets equally often, so that none is met again before the others were.
  const double rounds = std::ceil(sizes.sample_ms / std::max(sets_ms, 1e-6));
  const int32_t most_rounds = kMostLaunches / sets;
  const int32_t launches =
      sets * static_cast<int32_t>(std::clamp(rounds, 1.0, double{1} * most_rounds));
  ASSIGN_OR_RETURN(const CudaGraph graph, CudaGraph::Capture(context, [&] {
                     for (int32_t i = 0; i < launches; ++i) launch(i % sets);
                     return context.status();
                   }));
  std::vector<double> samples_ms;
  for (int32_t repeat = 0; repeat <= sizes.repeats; ++repeat) {
    timer.Start(context);
    graph.Launch(context);
    timer.Stop(context);
    const double elapsed_ms = timer.ElapsedMs(context);
    RETURN_IF_ERROR(context.Synchronize());
    if (repeat > 0) samples_ms.push_back(elapsed_ms / launches);  // the first uploads the graph
  }
  return samples_ms;
}

absl::StatusOr<DeviceArray<Bf16>> RandomBf16(const CudaContext& context, uint64_t seed,
                                             int64_t rows, int64_t columns) {
  ASSIGN_OR_RETURN(DeviceArray<Bf16> array,
                   DeviceArray<Bf16>::Create(static_cast<size_t>(rows * columns)));
  FillRandom(context, {.output = array.data(),
                       .row_stride = columns,
                       .tensor = {.seed = seed, .radius = 1.0f},
                       .rows = rows,
                       .columns = columns});
  return array;
}

absl::StatusOr<DeviceArray<float>> RandomF32(const CudaContext& context, uint64_t seed,
                                             int64_t rows, int64_t columns) {
  ASSIGN_OR_RETURN(const DeviceArray<Bf16> table, RandomBf16(context, seed, rows, columns));
  std::vector<TokenId> all(static_cast<size_t>(rows));
  std::iota(all.begin(), all.end(), TokenId{0});
  ASSIGN_OR_RETURN(const DeviceArray<TokenId> tokens, OnDevice(context, all));
  ASSIGN_OR_RETURN(DeviceArray<float> array,
                   DeviceArray<float>::Create(static_cast<size_t>(rows * columns)));
  Embedding(context, {.table = table.data(),
                      .num_tokens = static_cast<int32_t>(rows),
                      .tokens = tokens.data(),
                      .output = array.data(),
                      .rows = static_cast<int32_t>(rows),
                      .width = static_cast<int32_t>(columns)});
  RETURN_IF_ERROR(context.Synchronize());  // before table and tokens go
  return array;
}

}  // namespace baton::roofline
