// Speed of one model's forward pass.
//
//   model_bench dummy:bench/configs/530m.json [--threads N] [--isa NAME] [--repeats N]
//
// Each line is the best of `repeats` runs, in wall-clock time and, since other processes may hold
// the cores, in CPU time divided by the threads.
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "engine/kv/kv_cache.h"
#include "engine/model/model.h"

namespace baton {
namespace {

double Seconds(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

struct Timing {
  double wall_seconds = 1e30;
  double cpu_seconds = 1e30;
};

// `sequences` sequences that have `context` tokens behind them and run `tokens` more each.
struct Shape {
  const char* name;
  int32_t sequences;
  int32_t context;
  int32_t tokens;
};
constexpr Shape kShapes[] = {{"prefill 512", 1, 0, 512}, {"prefill 2048", 1, 0, 2048},
                             {"decode 1", 1, 256, 1},    {"decode 8", 8, 256, 1},
                             {"decode 32", 32, 256, 1},  {"decode 1 at 2048", 1, 2048, 1}};

class Bench {
 public:
  Bench(Model* model, int repeats, int threads)
      : model_(*model), repeats_(repeats), threads_(threads) {}

  absl::Status Run(const Shape& shape) {
    const KvLayout layout = model_.kv_layout();
    const int32_t length = shape.context + shape.tokens;
    const int32_t blocks = BlocksForTokens(length, layout.block_size);
    auto cache = KvCache::Create(layout, blocks * shape.sequences);
    if (!cache.ok()) return cache.status();
    std::vector<TokenId> tokens(static_cast<size_t>(shape.tokens));
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = static_cast<TokenId>(i * 7919 % static_cast<size_t>(model_.info().vocab_size));
    }
    std::vector<std::vector<BlockId>> tables(static_cast<size_t>(shape.sequences));
    std::vector<ForwardSequence> batch;
    for (int32_t s = 0; s < shape.sequences; ++s) {
      auto& table = tables[static_cast<size_t>(s)];
      for (int32_t b = 0; b < blocks; ++b) table.emplace_back(b * shape.sequences + s);
      batch.push_back({.tokens = tokens,
                       .start_position = shape.context,
                       .block_table = table,
                       .first_logit_token = shape.tokens - 1});
    }
    Timing best;
    Logits logits;
    for (int i = 0; i <= repeats_; ++i) {  // the first warms up
      const double wall = Seconds(CLOCK_MONOTONIC);
      const double cpu = Seconds(CLOCK_PROCESS_CPUTIME_ID);
      absl::Status status = model_.Forward(batch, (*cache)->region(), nullptr, &logits);
      if (!status.ok()) return status;
      if (i == 0) continue;
      best.wall_seconds = std::min(best.wall_seconds, Seconds(CLOCK_MONOTONIC) - wall);
      best.cpu_seconds =
          std::min(best.cpu_seconds, (Seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) / threads_);
    }
    Print(shape, best);
    return absl::OkStatus();
  }

 private:
  void Print(const Shape& shape, const Timing& best) const {
    const ModelInfo& info = model_.info();
    const double tokens = double{1} * shape.sequences * shape.tokens;
    const auto table = static_cast<double>(info.vocab_size) * info.hidden_size;
    const double layers = static_cast<double>(info.num_parameters) - 2 * table;  // untied
    // Multiply-adds of the matrices, and of attention over the mean context.
    const double context = shape.context + 0.5 * (shape.tokens + 1);
    const double flop = 2 * tokens * layers + 2 * table * shape.sequences +
                        4 * tokens * context * info.num_heads * info.head_dim * info.num_layers;
    const double kv_bytes = static_cast<double>(model_.kv_layout().BytesPerToken()) *
                            (shape.context + shape.tokens) * shape.sequences;
    const double bytes =
        static_cast<double>(info.weight_bytes) * (layers + table) / (layers + 2 * table) + kv_bytes;
    std::printf("%-18s %9.1f tok/s %8.2f ms %7.1f GFLOP/s %6.1f GB/s | by CPU time %9.1f tok/s\n",
                shape.name, tokens / best.wall_seconds, 1e3 * best.wall_seconds,
                1e-9 * flop / best.wall_seconds, 1e-9 * bytes / best.wall_seconds,
                tokens / best.cpu_seconds);
    std::fflush(stdout);
  }

  Model& model_;
  const int repeats_;
  const int threads_;
};

int Main(int argc, char** argv) {
  ModelOptions options;
  int repeats = 3;
  CLI::App app("Speed of one model's forward pass");
  app.add_option("model", options.path, "directory or dummy:CONFIG.json")->required();
  app.add_option("--threads", options.num_threads, "compute threads");
  app.add_option("--isa", options.isa, "avx2, avx512 or avx512-bf16");
  app.add_option("--repeats", repeats, "runs of each shape");
  CLI11_PARSE(app, argc, argv);
  const double start = Seconds(CLOCK_MONOTONIC);
  auto model = Model::Load(options, nullptr);
  if (!model.ok()) {
    std::fprintf(stderr, "%s\n", model.status().ToString().c_str());
    return 1;
  }
  const ModelInfo& info = (*model)->info();
  std::printf("%s: %.0f M parameters, %.2f GB, %s, %d threads, loaded in %.1f s\n",
              info.name.c_str(), 1e-6 * static_cast<double>(info.num_parameters),
              1e-9 * static_cast<double>(info.weight_bytes), info.kernels.c_str(),
              options.num_threads, Seconds(CLOCK_MONOTONIC) - start);
  Bench bench(model->get(), repeats, options.num_threads);
  for (const Shape& shape : kShapes) {
    if (const absl::Status status = bench.Run(shape); !status.ok()) {
      std::fprintf(stderr, "%s: %s\n", shape.name, status.ToString().c_str());
    }
  }
  return 0;
}

}  // namespace
}  // namespace baton

int main(int argc, char** argv) { return baton::Main(argc, argv); }
