// One draw from a large vocabulary. `values/s` is the rate at which logits are read.
#include <benchmark/benchmark.h>

#include <vector>

#include "bench/peaked_logits.h"
#include "engine/sampling/sampler.h"

namespace baton {
namespace {

constexpr int32_t kVocab = 128256;

void Draw(benchmark::State& state, const SamplingParams& base) {
  std::vector<float> logits(kVocab);
  FillPeakedLogits(logits);
  Sampler sampler(kVocab);
  SamplingParams sampling = base;
  const StoppingParams stopping;
  std::vector<TokenId> tokens(2000);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(i * 61);
  for (auto _ : state) {
    ++sampling.seed;
    auto drawn = sampler.Draw(
        logits,
        {.sampling = sampling, .stopping = stopping, .tokens = tokens, .prompt_length = 1000});
    benchmark::DoNotOptimize(drawn);
  }
  state.counters["values/s"] = benchmark::Counter(static_cast<double>(state.iterations()) * kVocab,
                                                  benchmark::Counter::kIsRate);
}

BENCHMARK_CAPTURE(Draw, greedy, SamplingParams{.temperature = 0});
BENCHMARK_CAPTURE(Draw, temperature, SamplingParams{.temperature = 0.8f});
BENCHMARK_CAPTURE(Draw, top_k_40, SamplingParams{.temperature = 0.8f, .top_k = 40});
BENCHMARK_CAPTURE(Draw, top_p_95, SamplingParams{.temperature = 0.8f, .top_p = 0.95f});
BENCHMARK_CAPTURE(Draw, penalties, SamplingParams{.temperature = 0, .repetition_penalty = 1.1f});
BENCHMARK_CAPTURE(Draw, top_logprobs_5, SamplingParams{.temperature = 0, .num_logprobs = 5});

}  // namespace
}  // namespace baton
