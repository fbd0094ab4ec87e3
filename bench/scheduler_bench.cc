// How long the scheduler itself takes per step, without any model: it must stay far below a step.
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "common/check.h"
#include "engine/scheduler/scheduler.h"

namespace baton {
namespace {

constexpr int32_t kRunning = 64;

SchedulerOptions Options() {
  SchedulerOptions options;
  options.block_size = 16;
  options.num_blocks = 20000;
  options.max_model_len = 1 << 20;
  options.max_batch_sequences = kRunning;
  options.max_batch_tokens = 512;
  options.max_waiting = 256;
  return options;
}

GenerationSpec Prompt(int32_t length, int32_t number) {
  GenerationSpec spec;
  for (int32_t i = 0; i < length; ++i) spec.tokens.push_back(number * 7919 + i);
  spec.prompt_length = length;
  spec.stopping.max_tokens = 1 << 20;
  return spec;
}

void Commit(Scheduler& scheduler, const StepPlan& plan) {
  std::vector<std::vector<SampledToken>> sampled(plan.rows.size());
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    sampled[i].assign(static_cast<size_t>(plan.rows[i].num_samples), SampledToken{.token = 5});
  }
  benchmark::DoNotOptimize(scheduler.Commit(sampled));
}

// 64 branches decode and 256 sequences of `prompt_tokens` wait behind a full batch.
std::unique_ptr<Scheduler> Loaded(int32_t prompt_tokens) {
  auto scheduler = Scheduler::Create(Options());
  for (int32_t i = 0; i < kRunning; ++i) {
    BATON_CHECK_OK(scheduler->Add(Prompt(prompt_tokens, i), SequenceMode::kGenerate).status());
  }
  while (scheduler->num_waiting() > 0) Commit(*scheduler, scheduler->Plan());
  for (int32_t i = 0; i < 256; ++i) {
    BATON_CHECK_OK(
        scheduler->Add(Prompt(prompt_tokens, kRunning + i), SequenceMode::kGenerate).status());
  }
  return scheduler;
}

void BM_Plan(benchmark::State& state) {
  const auto scheduler = Loaded(static_cast<int32_t>(state.range(0)));
  for (auto _ : state) {
    const StepPlan& plan = scheduler->Plan();
    benchmark::DoNotOptimize(plan.rows.data());
    state.PauseTiming();
    Commit(*scheduler, plan);
    state.ResumeTiming();
  }
}
BENCHMARK(BM_Plan)->Arg(128)->Arg(2048)->Iterations(2000);

void BM_PlanAndCommit(benchmark::State& state) {
  const auto scheduler = Loaded(static_cast<int32_t>(state.range(0)));
  for (auto _ : state) Commit(*scheduler, scheduler->Plan());
}
BENCHMARK(BM_PlanAndCommit)->Arg(128)->Arg(2048)->Iterations(2000);

// Reserve, seal and abort of a prompt: a handoff's bookkeeping on the decode side.
void BM_Handoff(benchmark::State& state) {
  const auto scheduler = Scheduler::Create(Options());
  const std::vector<TokenId> first_tokens = {5};
  int32_t number = 0;
  for (auto _ : state) {
    auto reservation =
        scheduler->Reserve(Prompt(static_cast<int32_t>(state.range(0)), ++number % 1000));
    BATON_CHECK_OK(scheduler->Seal(reservation->sequence, first_tokens));
    scheduler->Abort(reservation->sequence, false);
  }
}
BENCHMARK(BM_Handoff)->Arg(512)->Arg(8192);

}  // namespace
}  // namespace baton
