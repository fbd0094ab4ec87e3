// The simulator against what is known exactly, and against itself. All figures are simulated.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <iostream>

#include "sim/simulator.h"
#include "tests/unit/sim/traffic.h"

namespace baton::sim {
namespace {

using router::Role;

// 100 ms for 500 tokens.
constexpr StepModel kModel{.prefill_token_ms = 0.2,
                           .decode_base_ms = 10,
                           .decode_row_ms = 0.5,
                           .decode_context_ms = 1e-4,
                           .profiled_prefill_tokens = 4096,
                           .profiled_decode_rows = 64,
                           .profiled_context_tokens = 1 << 20};

SimOptions Disaggregated(int prefills, int decodes) {
  SimOptions options;
  for (int i = 0; i < prefills; ++i) {
    options.workers.push_back({.role = Role::kPrefill, .model = kModel});
  }
  for (int i = 0; i < decodes; ++i) {
    options.workers.push_back({.role = Role::kDecode, .model = kModel});
  }
  options.core.admission.mode = router::AdmissionMode::kOff;
  options.core.conditional_disaggregation = false;
  options.core.queue.max_requests = 1 << 20;
  return options;
}

// One prefill worker that takes D for each prompt, Poisson arrivals at rate R:
// mean TTFT = D + R·D² / (2·(1 - R·D)).
TEST(Simulator, PrefillAloneIsAnMD1Queue) {
  constexpr double kServiceMs = 100;
  for (const double load : {0.3, 0.5, 0.7, 0.8, 0.9}) {
    const double rate = load / kServiceMs;  // in 1/ms
    const double expected_ms =
        kServiceMs + rate * kServiceMs * kServiceMs / (2 * (1 - rate * kServiceMs));
    double sum_ms = 0;
    size_t count = 0;
    if (kSanitized && load > 0.5) break;
    for (uint64_t seed = 1; seed <= (kSanitized ? 1 : 4); ++seed) {
      const std::vector<SimRequest> requests =
          Poisson(seed, 1000 * rate, 60'000,
                  {.prompt = 500, .output = 1, .slo = {.ttft_ms = 1e4, .tpot_ms = 1e4}});
      const SimResult result = Simulator(Disaggregated(1, 1)).Run(requests);
      for (size_t i = 1000; i < requests.size(); ++i, ++count) sum_ms += result.outcomes[i].ttft_ms;
    }
    const double mean_ms = sum_ms / static_cast<double>(count);
    std::cout << "load " << load << ": mean TTFT " << mean_ms << " ms simulated, " << expected_ms
              << " ms by M/D/1\n";
    EXPECT_NEAR(mean_ms / expected_ms, 1, 0.05) << "load " << load;
  }
}

TEST(Simulator, TheSameSeedGivesTheSameRunAndAnotherSeedAnother) {
  const auto run = [](uint64_t seed) {
    SimOptions options = Disaggregated(2, 2);
    options.message_ms = 0.3;
    options.transfer_ms_per_token = 0.01;
    options.core.admission.mode = router::AdmissionMode::kPredict;
    options.core.conditional_disaggregation = true;
    std::vector<double> out;
    const std::vector<SimRequest> requests = Poisson(
        seed, 25, 2000, {.prompt = 400, .output = 30, .slo = {.ttft_ms = 600, .tpot_ms = 30}});
    for (const SimOutcome& each : Simulator(options).Run(requests).outcomes) {
      out.push_back(each.ttft_ms);
      out.push_back(each.tpot_ms);
      out.push_back(each.end_ms);
    }
    return out;
  };
  const std::vector<double> first = run(7);
  EXPECT_EQ(first, run(7));
  EXPECT_NE(first, run(8));
}

TEST(Simulator, RunsAHundredThousandRequestsInAMinute) {
  SimOptions options = Disaggregated(4, 4);
  const std::vector<SimRequest> requests = Poisson(
      3, 30, 20'000, {.prompt = 500, .output = 64, .slo = {.ttft_ms = 2000, .tpot_ms = 100}});
  const auto start = std::chrono::steady_clock::now();
  const SimResult result = Simulator(options).Run(requests);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  const double per_minute = 60.0 * static_cast<double>(requests.size()) / took.count();
  std::cout << per_minute << " requests a minute, good " << result.GoodShare() << "\n";
  EXPECT_GT(result.GoodShare(), 0.5);
  if (!kSanitized) {
    EXPECT_GT(per_minute, 100'000);
  }
}

// What the router predicts at dispatch, on workers that are as they say, comes true.
TEST(Simulator, PredictionsComeTrueBelowSaturation) {
  SimOptions options = Disaggregated(2, 2);
  const std::vector<SimRequest> requests =
      Poisson(5, 14, 5000, {.prompt = 500, .output = 50, .slo = {.ttft_ms = 1000, .tpot_ms = 60}});
  const SimResult result = Simulator(options).Run(requests);
  double ttft_error = 0, tpot_error = 0;
  for (const SimOutcome& each : result.outcomes) {
    ASSERT_TRUE(each.prediction.ttft_ms.has_value());
    ttft_error += std::abs(*each.prediction.ttft_ms - each.ttft_ms) / each.ttft_ms;
    tpot_error += std::abs(*each.prediction.tpot_ms - each.tpot_ms) / each.tpot_ms;
  }
  const auto n = static_cast<double>(result.outcomes.size());
  std::cout << "mean error: TTFT " << 100 * ttft_error / n << " %, TPOT " << 100 * tpot_error / n
            << " %\n";
  EXPECT_LT(ttft_error / n, 0.05);
  EXPECT_LT(tpot_error / n, 0.15);
}

}  // namespace
}  // namespace baton::sim
