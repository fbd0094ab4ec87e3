// What the router itself costs: the real executable on one core, workers that compute nothing and
// the client on another one.
//
//   router_bench latency [--rate R] [--seconds S]       open-loop Poisson arrivals, small prompts
//   router_bench relay   [--streams N] [--tokens T] [--window W]   streams as fast as they go
//
// Definitions and figures: docs/benchmarks.md. The exit status is 1 when a request fails or a token
// is lost.
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "bench/load/client/run_load.h"
#include "bench/load/core/stats.h"
#include "bench/load/core/summary.h"
#include "bench/router/null_worker.h"
#include "bench/router/router_under_test.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/tokenizer.h"

namespace baton::bench {
namespace {

struct Settings {
  std::string baton;  // the executable; empty: beside this one's folder
  std::string model = "models/demo";
  std::string path = "handoff";  // or "colocated"
  bool pin = true;
  int prompt_tokens = 32;
  uint64_t seed = 1;
  bool usage = false;  // the per-token `usage` and the timings that `baton bench serve` asks for
  std::vector<std::string> router_flags;
};

struct LatencySettings {
  double rate = 1000;
  double seconds = 10;
  int output_tokens = 4;
};

struct RelaySettings {
  int streams = 256;
  int tokens = 1500;
  int window = 4;  // steps that may be on their way to the client
};

std::string DefaultExecutable() {
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
  std::string folder(path, static_cast<size_t>(std::max<ssize_t>(length, 0)));
  for (int i = 0; i < 2; ++i) folder.resize(std::min(folder.size(), folder.rfind('/')));
  return folder + "/baton";
}

// Ids whose text is plain: each gives the client an event with text.
std::vector<TokenId> PlainTokens(const Tokenizer& tokenizer) {
  std::vector<TokenId> tokens;
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string bytes = tokenizer.TokenBytes(id);
    const bool plain = !bytes.empty() && std::all_of(bytes.begin(), bytes.end(),
                                                     [](char c) { return c >= 0x20 && c < 0x7f; });
    if (plain && !tokenizer.IsSpecial(id)) tokens.push_back(id);
  }
  return tokens;
}

// Workers and router, each where it belongs.
struct Bed {
  MonotonicClock clock;
  Logger log{"bench", LogLevel::kWarning, LogFormat::kText};
  std::unique_ptr<NullCluster> cluster;
  std::unique_ptr<RouterUnderTest> router;
  load::Target target;
};

absl::StatusOr<std::unique_ptr<Bed>> MakeBed(const Settings& settings, bool at_once) {
  auto bed = std::make_unique<Bed>();
  ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(settings.model));
  const Cores cores = UsableCores();
  const bool pin = settings.pin && cores.first != cores.last;
  if (!pin) std::printf("not pinned: router, workers and client share their cores\n");
  if (pin && !PinTo(cores.last)) return absl::InternalError("cannot pin to a core");
  const bool handoff = settings.path == "handoff";
  ASSIGN_OR_RETURN(bed->cluster, NullCluster::Start({.prefill_workers = handoff ? 1 : 0,
                                                     .decode_workers = handoff ? 2 : 0,
                                                     .vocab_size = tokenizer->vocab_size(),
                                                     .tokens = PlainTokens(*tokenizer),
                                                     .at_once = at_once},
                                                    bed->clock, bed->log));
  if (pin && !PinTo(cores.first)) return absl::InternalError("cannot pin to a core");
  ASSIGN_OR_RETURN(bed->router,
                   RouterUnderTest::Start(
                       {.executable = settings.baton.empty() ? DefaultExecutable() : settings.baton,
                        .model = settings.model,
                        .workers = bed->cluster->addresses(),
                        .extra = settings.router_flags}));
  if (pin && !PinTo(cores.last)) return absl::InternalError("cannot pin to a core");
  bed->target.url = {.host = "127.0.0.1", .port = absl::StrCat(bed->router->http_port())};
  bed->target.body.tokens = load::RangeOfVocabulary(tokenizer->vocab_size());
  bed->target.body.continuous_usage = settings.usage;
  bed->target.body.timings = settings.usage;
  bed->target.timeout = absl::Seconds(60);
  return bed;
}

absl::StatusOr<load::LoadPlan> MakePlan(const Settings& settings, load::ArrivalSpec arrivals,
                                        int output_tokens, int64_t requests) {
  load::WorkloadSpec spec;
  spec.arrivals = arrivals;
  spec.lengths.prompt = {static_cast<double>(settings.prompt_tokens), 0};
  spec.lengths.output = {static_cast<double>(output_tokens), 0};
  spec.limit.max_requests = requests;
  return load::BuildPlan(spec, {}, settings.seed);
}

// OK when every request got every token.
absl::Status CheckComplete(const load::LoadPlan& plan, const load::LoadResult& result) {
  const load::Summary summary = load::Summarize(result.records, plan.classes);
  for (const auto& [reason, count] : summary.failures) {
    std::printf("FAILED %s: %lld, for example: %s\n", reason.c_str(), static_cast<long long>(count),
                summary.failure_examples.at(reason).c_str());
  }
  if (summary.succeeded == summary.requests && summary.short_outputs == 0 &&
      result.records.size() == plan.requests.size()) {
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat(summary.requests - summary.succeeded,
                                          " requests failed and ", summary.short_outputs,
                                          " lack tokens"));
}

void PrintMs(const char* what, std::vector<double> samples) {
  const load::Distribution ms = load::Describe(std::move(samples));
  std::printf("%-34s p50 %.3f  p90 %.3f  p99 %.3f  max %.3f ms\n", what, ms.p50, ms.p90, ms.p99,
              ms.max);
}

void PrintClient(const load::ClientOverhead& client) {
  std::printf("client: %.0f %% of its core; its loop late by p99 %.3f ms\n",
              100 * client.cpu_fraction(), client.loop_lag_ms.p99);
}

absl::Status RunLatency(const Settings& settings, const LatencySettings& latency) {
  ASSIGN_OR_RETURN(const auto bed, MakeBed(settings, /*at_once=*/true));
  const load::ArrivalSpec arrivals{.rate_per_s = latency.rate};
  ASSIGN_OR_RETURN(const load::LoadPlan warmup,
                   MakePlan(settings, arrivals, latency.output_tokens,
                            std::max<int64_t>(1, static_cast<int64_t>(latency.rate / 2))));
  ASSIGN_OR_RETURN(const load::LoadPlan plan,
                   MakePlan(settings, arrivals, latency.output_tokens,
                            static_cast<int64_t>(latency.rate * latency.seconds)));
  RETURN_IF_ERROR(load::RunLoad(warmup, bed->target).status());
  const absl::Duration cpu_before = bed->router->cpu();
  ASSIGN_OR_RETURN(const load::LoadResult result, load::RunLoad(plan, bed->target));
  const absl::Duration cpu = bed->router->cpu() - cpu_before;
  std::vector<double> first, whole, inside;
  for (const load::RequestRecord& record : result.records) {
    if (record.outcome != load::Outcome::kOk) continue;
    first.push_back(record.first_ms - record.sent_ms);
    whole.push_back(record.end_ms - record.sent_ms);
    if (record.timings.has_value()) inside.push_back(record.timings->ttft_ms);
  }
  std::printf("%.0f requests/s, %zu requests, %d + %d tokens, %s\n", plan.offered_per_s,
              plan.requests.size(), settings.prompt_tokens, latency.output_tokens,
              settings.path.c_str());
  PrintMs("sent to first token", std::move(first));
  PrintMs("sent to end", std::move(whole));
  if (!inside.empty()) PrintMs("of that, submit to first token", std::move(inside));
  std::printf("router: %.1f us of processor time a request, %.0f %% of a core\n",
              absl::ToDoubleMicroseconds(cpu) / static_cast<double>(plan.requests.size()),
              100 * absl::ToDoubleSeconds(cpu) / result.overhead.wall_s);
  PrintClient(result.overhead);
  return CheckComplete(plan, result);
}

// Feeds steps to the router, never more than `window` ahead of the client.
class Pump {
 public:
  Pump(const RelaySettings& relay, Bed& bed) : relay_(relay), bed_(bed), emitted_(relay.streams) {}

  struct Mark {
    absl::Duration cpu;
    absl::Time at;
    int64_t tokens = 0;
    int64_t reads = 0;
  };

  void OnTokens(int64_t received) {
    ++reads_;
    Continue(received);
    if (received == int64_t{relay_.streams} * relay_.tokens) end_ = Now(received);
  }
  // Begins once every stream is open and decodes.
  void Continue(int64_t received) {
    if (!begun_) {
      if (received < relay_.streams || bed_.cluster->running() < relay_.streams) return;
      begun_ = true;
      begin_ = Now(received);
    }
    while (emitted_ - received <= int64_t{relay_.window - 1} * relay_.streams) {
      const int64_t tokens = bed_.cluster->Step();
      if (tokens == 0) return;
      emitted_ += tokens;
    }
  }

  const Mark& begin() const { return begin_; }
  const Mark& end() const { return end_; }

 private:
  Mark Now(int64_t received) const {
    return {bed_.router->cpu(), bed_.clock.Now(), received, reads_};
  }

  const RelaySettings relay_;
  Bed& bed_;
  int64_t emitted_;
  int64_t reads_ = 0;
  bool begun_ = false;
  Mark begin_, end_;
};

absl::Status RunRelay(const Settings& settings, const RelaySettings& relay) {
  ASSIGN_OR_RETURN(const auto bed, MakeBed(settings, /*at_once=*/false));
  ASSIGN_OR_RETURN(const load::LoadPlan plan,
                   MakePlan(settings, {.kind = load::ArrivalKind::kConstant, .rate_per_s = 500},
                            relay.tokens, relay.streams));
  Pump pump(relay, *bed);
  const load::LoadHooks hooks{.on_progress =
                                  [&pump](const load::LoadProgress& progress) {
                                    pump.Continue(progress.output_tokens);
                                    return true;
                                  },
                              .interval = absl::Milliseconds(10),
                              .on_tokens = [&pump](int64_t received) { pump.OnTokens(received); }};
  ASSIGN_OR_RETURN(const load::LoadResult result, load::RunLoad(plan, bed->target, hooks));
  RETURN_IF_ERROR(CheckComplete(plan, result));
  const auto tokens = static_cast<double>(pump.end().tokens - pump.begin().tokens);
  const auto reads = static_cast<double>(pump.end().reads - pump.begin().reads);
  const double cpu_s = absl::ToDoubleSeconds(pump.end().cpu - pump.begin().cpu);
  const double wall_s = absl::ToDoubleSeconds(pump.end().at - pump.begin().at);
  std::printf("%d streams, window of %d steps, %s: %.0f tokens, %.2f to a read of the client\n",
              relay.streams, relay.window, settings.path.c_str(), tokens, tokens / reads);
  std::printf("router: %.0f tokens/s of processor time, %.2f us a token\n", tokens / cpu_s,
              1e6 * cpu_s / tokens);
  std::printf("wall: %.0f tokens/s, router at %.0f %% of its core\n", tokens / wall_s,
              100 * cpu_s / wall_s);
  PrintClient(result.overhead);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  CLI::App app("What the router itself costs");
  app.require_subcommand(1);
  app.fallthrough();
  Settings settings;
  app.add_option("--baton", settings.baton, "The executable (default: of this build)");
  app.add_option("--model", settings.model, "Directory with the tokenizer")->capture_default_str();
  app.add_option("--path", settings.path)
      ->check(CLI::IsMember({"handoff", "colocated"}))
      ->capture_default_str();
  app.add_flag("--pin,!--no-pin", settings.pin, "Router on the first core, all else on the last");
  app.add_option("--prompt-tokens", settings.prompt_tokens)->capture_default_str();
  app.add_option("--seed", settings.seed)->capture_default_str();
  app.add_flag("--usage", settings.usage, "Ask for usage with each token, and for timings");
  app.add_option("--router-flag", settings.router_flags, "Passed on to the router");
  LatencySettings latency;
  CLI::App* latency_mode = app.add_subcommand("latency", "Poisson arrivals, open loop");
  latency_mode->add_option("--rate", latency.rate, "Requests/s")->capture_default_str();
  latency_mode->add_option("--seconds", latency.seconds)->capture_default_str();
  latency_mode->add_option("--tokens", latency.output_tokens)->capture_default_str();
  RelaySettings relay;
  CLI::App* relay_mode = app.add_subcommand("relay", "Many streams, as fast as they go");
  relay_mode->add_option("--streams", relay.streams)->capture_default_str();
  relay_mode->add_option("--tokens", relay.tokens, "Of each stream")->capture_default_str();
  relay_mode->add_option("--window", relay.window, "Steps on their way at most")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const absl::Status status =
      latency_mode->parsed() ? RunLatency(settings, latency) : RunRelay(settings, relay);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}

}  // namespace
}  // namespace baton::bench

int main(int argc, char** argv) { return baton::bench::Main(argc, argv); }
