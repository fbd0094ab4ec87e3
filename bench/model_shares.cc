#include "bench/model_shares.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"
#include "bench/model_shape.h"
#include "bench/peaked_logits.h"
#include "common/check.h"
#include "engine/kernels/op_times.h"
#include "engine/sampling/sampler.h"

namespace baton {
namespace {

struct WayToDraw {
  std::string_view name;
  SamplingParams sampling;
};
const std::array<WayToDraw, 3>& WaysToDraw() {
  static const std::array<WayToDraw, 3> kWays = {
      WayToDraw{"greedy", {.temperature = 0}}, WayToDraw{"temperature", {.temperature = 0.8f}},
      WayToDraw{"top-p 0.95", {.temperature = 0.8f, .top_p = 0.95f}}};
  return kWays;
}

// A step of a shape, in seconds: of each part the smallest of several steps, since other processes
// may hold the cores.
struct StepTimes {
  OpTimes ops;
  double rest = 1e30;
  std::array<double, 3> draw = {1e30, 1e30, 1e30};  // by WaysToDraw

  double Forward() const { return std::accumulate(ops.seconds.begin(), ops.seconds.end(), rest); }
  // What sampling, embedding, norms and RoPE are of the whole step.
  double SmallShare(size_t way) {
    const double small = ops[OpKind::kEmbedding] + ops[OpKind::kNorm] + ops[OpKind::kRope];
    return (small + draw[way]) / (Forward() + draw[way]);
  }
};

// The time to draw a token from each row.
absl::StatusOr<double> TimeDraws(Sampler* sampler, const Logits& logits,
                                 const SamplingParams& sampling) {
  const StoppingParams stopping;
  const double start = Seconds(CLOCK_MONOTONIC);
  for (int32_t row = 0; row < logits.num_rows; ++row) {
    RETURN_IF_ERROR(sampler
                        ->Draw(logits.Row(row), {.sampling = sampling,
                                                 .stopping = stopping,
                                                 .tokens = {},
                                                 .sample = row,
                                                 .eos_tokens = {}})
                        .status());
  }
  return Seconds(CLOCK_MONOTONIC) - start;
}

absl::StatusOr<StepTimes> Measure(const Shape& shape, int repeats, Model* model, OpTimes* times) {
  ASSIGN_OR_RETURN(const auto prepared, PreparedShape::Create(model, shape));
  Sampler sampler(model->info().vocab_size);
  Logits peaked;
  StepTimes best;
  best.ops.seconds.fill(1e30);
  for (int i = 0; i <= repeats; ++i) {
    *times = {};
    ASSIGN_OR_RETURN(const Timing timing, prepared->Run());
    peaked = prepared->logits();
    for (int32_t row = 0; row < peaked.num_rows; ++row) FillPeakedLogits(peaked.MutableRow(row));
    if (i == 0) continue;  // warms up
    double in_ops = 0;
    for (size_t op = 0; op < kOpNames.size(); ++op) {
      best.ops.seconds[op] = std::min(best.ops.seconds[op], times->seconds[op]);
      in_ops += times->seconds[op];
    }
    best.rest = std::min(best.rest, timing.wall_seconds - in_ops);
    for (size_t way = 0; way < best.draw.size(); ++way) {
      ASSIGN_OR_RETURN(const double draw, TimeDraws(&sampler, peaked, WaysToDraw()[way].sampling));
      best.draw[way] = std::min(best.draw[way], draw);
    }
  }
  return best;
}

void PrintHead() {
  std::printf("%-18s %9s", "", "forward");
  for (const std::string_view op : kOpNames) {
    std::printf(" %9s", std::string(op).c_str());
  }
  std::printf(" %9s", "rest");
  for (const WayToDraw& way : WaysToDraw()) std::printf(" %11s", std::string(way.name).c_str());
  std::printf("\n");
}

void PrintRow(const Shape& shape, const StepTimes& times) {
  const auto share = [&](double seconds) { return 100 * seconds / times.Forward(); };
  std::printf("%-18s %6.2f ms", shape.name, 1e3 * times.Forward());
  for (const double seconds : times.ops.seconds) std::printf(" %7.2f %%", share(seconds));
  std::printf(" %7.2f %%", share(times.rest));
  for (const double seconds : times.draw) std::printf(" %8.3f ms", 1e3 * seconds);
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace

absl::Status PrintShares(ModelOptions options, int repeats) {
  OpTimes times;
  options.op_times = &times;
  ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, Model::Load(options, nullptr));
  std::printf("shares of a forward pass, and the time to draw its tokens from peaked rows of %d\n",
              model->info().vocab_size);
  PrintHead();
  std::array<double, 3> largest{};
  std::array<const char*, 3> where{};
  for (const Shape& shape : kShapes) {
    ASSIGN_OR_RETURN(StepTimes step, Measure(shape, repeats, model.get(), &times));
    PrintRow(shape, step);
    for (size_t way = 0; way < largest.size(); ++way) {
      if (step.SmallShare(way) < largest[way]) continue;
      largest[way] = step.SmallShare(way);
      where[way] = shape.name;
    }
  }
  std::printf("sampling, embedding, norms and RoPE together, of a step, at most:");
  for (size_t way = 0; way < largest.size(); ++way) {
    std::printf("%s %s %.2f %% (%s)", way == 0 ? "" : ",",
                std::string(WaysToDraw()[way].name).c_str(), 100 * largest[way], where[way]);
  }
  std::printf("\n");
  return absl::OkStatus();
}

absl::Status PrintScaling(const ModelOptions& options, int rounds) {
  ModelOptions single = options;
  single.num_threads = 1;
  if (!single.pin_cpus.empty()) single.pin_cpus.resize(1);
  ASSIGN_OR_RETURN(const std::unique_ptr<Model> one, Model::Load(single, nullptr));
  ASSIGN_OR_RETURN(const std::unique_ptr<Model> all, Model::Load(options, nullptr));
  std::printf("1 to %d threads, median of %d interleaved rounds (smallest to largest)\n",
              options.num_threads, rounds);
  for (const Shape& shape : kShapes) {
    if (shape.tokens == 1) continue;
    ASSIGN_OR_RETURN(const auto with_one, PreparedShape::Create(one.get(), shape));
    ASSIGN_OR_RETURN(const auto with_all, PreparedShape::Create(all.get(), shape));
    std::vector<double> wall;
    std::vector<double> cpu;
    for (int round = 0; round <= rounds; ++round) {
      ASSIGN_OR_RETURN(const Timing a, with_one->Run());
      ASSIGN_OR_RETURN(const Timing b, with_all->Run());
      if (round == 0) continue;  // warms up
      wall.push_back(a.wall_seconds / b.wall_seconds);
      cpu.push_back(a.cpu_seconds / b.cpu_seconds * options.num_threads);
    }
    std::ranges::sort(wall);
    std::ranges::sort(cpu);
    std::printf("%-18s %.2f times as fast (%.2f to %.2f), by CPU time %.2f (%.2f to %.2f)\n",
                shape.name, wall[wall.size() / 2], wall.front(), wall.back(), cpu[cpu.size() / 2],
                cpu.front(), cpu.back());
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

}  // namespace baton
