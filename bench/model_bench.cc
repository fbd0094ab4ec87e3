// Speed of one model's forward pass.
//
//   model_bench dummy:bench/configs/530m.json [--threads N] [--cpus LIST] [--isa NAME] [--repeats
//   N] [--weights int8|int4] [--kv-dtype int8] [--packed-cache DIR]
//
// Each line is the best of `repeats` runs, in wall-clock time and, since other processes may hold
// the cores, in CPU time divided by the threads.
//
//   model_bench … --shares       which share of a forward pass each op takes, and what drawing
//   costs model_bench … --scaling N    prefill with --threads (2 by default here) against one
//   thread, the
//                                median of N interleaved rounds
//
//   model_bench DIRECTORY --serve
//
// Keeps the model loaded and answers commands of standard input, for cpu_peer.sh. One JSON object a
// line: what the model is, then an answer to each command, {"error": "…"} if it failed.
//   run SEQUENCES CONTEXT TOKENS REPEATS   {"seconds": […], "cpu_seconds": […]}, REPEATS of each:
//                                          wall-clock time, and CPU time of all threads
//   logits FILE TOKEN…                     {"rows": 1}: the last token's, f32, are in FILE
//   all_logits FILE TOKEN…                 {"rows": R}: every token's
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/model_shape.h"
#include "bench/model_shares.h"
#include "common/check.h"
#include "engine/model/model.h"

namespace baton {
namespace {

class Bench {
 public:
  Bench(Model* model, int repeats, int threads)
      : model_(*model), repeats_(repeats), threads_(threads) {}

  absl::Status Run(const Shape& shape) {
    ASSIGN_OR_RETURN(const auto prepared, PreparedShape::Create(&model_, shape));
    Timing best;
    for (int i = 0; i <= repeats_; ++i) {
      ASSIGN_OR_RETURN(const Timing timing, prepared->Run());
      if (i == 0) continue;  // warms up
      best.wall_seconds = std::min(best.wall_seconds, timing.wall_seconds);
      best.cpu_seconds = std::min(best.cpu_seconds, timing.cpu_seconds / threads_);
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

// Answers the commands above until standard input ends.
class Server {
 public:
  explicit Server(Model* model) : model_(*model) {}

  void Serve() {
    const ModelInfo& info = model_.info();
    std::printf("{\"kernels\": \"%s\", \"parameters\": %lld, \"weight_bytes\": %lld}\n",
                info.kernels.c_str(), static_cast<long long>(info.num_parameters),
                static_cast<long long>(info.weight_bytes));
    std::fflush(stdout);
    for (std::string line; std::getline(std::cin, line);) {
      const absl::StatusOr<std::string> answer = Answer(line);
      if (answer.ok()) {
        std::printf("%s\n", answer->c_str());
      } else {
        std::printf("{\"error\": \"%s\"}\n", std::string(answer.status().message()).c_str());
      }
      std::fflush(stdout);
    }
  }

 private:
  absl::StatusOr<std::string> Answer(const std::string& line) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "run") return RunShape(words);
    if (command == "logits" || command == "all_logits") {
      return WriteLogits(words, command == "all_logits");
    }
    return absl::InvalidArgumentError("unknown command; allowed: run, logits, all_logits");
  }

  absl::StatusOr<std::string> RunShape(std::istream& words) {
    Shape shape;
    int repeats = 0;
    if (!(words >> shape.sequences >> shape.context >> shape.tokens >> repeats) ||
        shape.sequences < 1 || shape.context < 0 || shape.tokens < 1 || repeats < 1) {
      return absl::InvalidArgumentError("run takes SEQUENCES CONTEXT TOKENS REPEATS");
    }
    ASSIGN_OR_RETURN(const auto prepared, PreparedShape::Create(&model_, shape));
    std::string wall;
    std::string cpu;
    for (int i = 0; i < repeats; ++i) {
      ASSIGN_OR_RETURN(const Timing timing, prepared->Run());
      absl::StrAppendFormat(&wall, "%s%.9f", i == 0 ? "" : ", ", timing.wall_seconds);
      absl::StrAppendFormat(&cpu, "%s%.9f", i == 0 ? "" : ", ", timing.cpu_seconds);
    }
    return absl::StrCat("{\"seconds\": [", wall, "], \"cpu_seconds\": [", cpu, "]}");
  }

  absl::StatusOr<std::string> WriteLogits(std::istream& words, bool all) {
    std::string file;
    words >> file;
    std::vector<TokenId> tokens;
    for (TokenId token; words >> token;) tokens.push_back(token);
    if (tokens.empty()) return absl::InvalidArgumentError("give FILE TOKEN…");
    const auto count = static_cast<int32_t>(tokens.size());
    ASSIGN_OR_RETURN(
        const auto prepared,
        PreparedShape::Create(&model_, {.sequences = 1, .tokens = count, .all_logits = all}));
    prepared->SetTokens(tokens);
    RETURN_IF_ERROR(prepared->Run().status());
    const std::span<const float> rows = prepared->logits().values;
    std::ofstream output(file, std::ios::binary);
    output.write(reinterpret_cast<const char*>(rows.data()),
                 static_cast<std::streamsize>(rows.size_bytes()));
    if (!output.flush()) return absl::InvalidArgumentError("cannot write the logits' file");
    return absl::StrCat("{\"rows\": ", prepared->logits().num_rows, "}");
  }

  Model& model_;
};

int Main(int argc, char** argv) {
  ModelOptions options;
  int repeats = 3;
  bool serve = false;
  bool shares = false;
  int scaling_rounds = 0;
  CLI::App app("Speed of one model's forward pass");
  app.add_option("model", options.path, "directory or dummy:CONFIG.json")->required();
  app.add_option("--threads", options.num_threads, "compute threads");
  app.add_option("--cpus", options.pin_cpus, "a CPU for each thread; default: not pinned")
      ->delimiter(',');
  app.add_option("--weights", options.weights, "int8 or int4: quantized at load");
  app.add_option("--kv-dtype", options.kv_dtype, "int8: the KV cache in half of bf16's bytes");
  app.add_option("--isa", options.isa, "avx2, avx512 or avx512-bf16");
  app.add_option("--packed-cache", options.packed_cache, "directory of packed weights");
  app.add_option("--repeats", repeats, "runs of each shape");
  app.add_flag("--serve", serve, "answer commands of standard input");
  app.add_flag("--shares", shares, "the share of each op");
  app.add_option("--scaling", scaling_rounds, "rounds of one thread against all")
      ->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  options.note = [](const LoadNote& note) {
    std::fprintf(stderr, "%s: %s %s\n", note.event.c_str(), note.file.c_str(), note.why.c_str());
  };
  if (shares || scaling_rounds > 0) {
    if (!shares) options.num_threads = std::max(options.num_threads, 2);
    const absl::Status status =
        shares ? PrintShares(options, repeats) : PrintScaling(options, scaling_rounds);
    if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return status.ok() ? 0 : 1;
  }
  const double start = Seconds(CLOCK_MONOTONIC);
  auto model = Model::Load(options, nullptr);
  if (!model.ok()) {
    std::fprintf(stderr, "%s\n", model.status().ToString().c_str());
    return 1;
  }
  if (serve) {
    Server(model->get()).Serve();
    return 0;
  }
  const ModelInfo& info = (*model)->info();
  std::printf("%s: %.0f M parameters, %s, %.2f GB, %s, %d threads, loaded in %.1f s\n",
              info.name.c_str(), 1e-6 * static_cast<double>(info.num_parameters),
              info.weight_dtype.c_str(), 1e-9 * static_cast<double>(info.weight_bytes),
              info.kernels.c_str(), options.num_threads, Seconds(CLOCK_MONOTONIC) - start);
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
