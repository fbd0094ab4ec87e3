// One worker of a pool becomes ten times slower for a minute and a half, and still answers. All
// figures are simulated.
#include <gtest/gtest.h>

#include <iostream>

#include "tests/unit/sim/traffic.h"

namespace baton::sim {
namespace {

using router::Role;

constexpr StepModel kModel{.prefill_base_ms = 5,
                           .prefill_token_ms = 0.2,
                           .decode_base_ms = 10,
                           .decode_row_ms = 0.5,
                           .profiled_prefill_tokens = 4096,
                           .profiled_decode_rows = 64};
constexpr double kSlowFromMs = 30'000;
constexpr double kSlowUntilMs = 120'000;

SimOptions Cluster(int32_t slow_worker, bool eject) {
  SimOptions options;
  for (int i = 0; i < 4; ++i) options.workers.push_back({.role = Role::kPrefill, .model = kModel});
  for (int i = 0; i < 4; ++i) options.workers.push_back({.role = Role::kDecode, .model = kModel});
  options.slow = {{slow_worker, kSlowFromMs, kSlowUntilMs, 10}};
  options.message_ms = 0.3;
  if (!eject) options.core.cluster.ejection.out_after = absl::InfiniteDuration();
  return options;
}

// Good requests of those that came in [from, until).
double GoodShare(const std::vector<SimRequest>& requests, const SimResult& result, double from_ms,
                 double until_ms) {
  double good = 0, all = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].arrival_ms < from_ms || requests[i].arrival_ms >= until_ms) continue;
    ++all;
    good += result.outcomes[i].result == router::SloResult::kGood;
  }
  return good / all;
}

TEST(GrayFailure, ASlowWorkerIsOutInFifteenSecondsAndComesBack) {
  const std::vector<SimRequest> requests =
      Poisson(3, 20, kSanitized ? 1000 : 4000,
              {.prompt = 500, .output = 50, .slo = {.ttft_ms = 600, .tpot_ms = 25}});
  for (const int32_t slow : {0, 4}) {
    const SimResult with = Simulator(Cluster(slow, true)).Run(requests);
    const SimResult without = Simulator(Cluster(slow, false)).Run(requests);
    const auto share = [&](const SimResult& result, double from_ms, double until_ms) {
      return GoodShare(requests, result, from_ms, until_ms);
    };
    std::cout << (slow == 0 ? "prefill" : "decode") << " worker slow, good (simulated): before "
              << share(with, 0, kSlowFromMs) << "; first 15 s "
              << share(with, kSlowFromMs, kSlowFromMs + 15'000) << ", without ejection "
              << share(without, kSlowFromMs, kSlowFromMs + 15'000) << "; after that "
              << share(with, kSlowFromMs + 15'000, kSlowUntilMs) << ", without "
              << share(without, kSlowFromMs + 15'000, kSlowUntilMs) << "; well again "
              << share(with, kSlowUntilMs + 60'000, 1e9) << "\n";
    // Out in time, then probed in vain, and back at last; nobody else.
    std::vector<double> out_ms, in_ms;
    for (const SimStanding& each : with.standings) {
      EXPECT_EQ(each.worker, slow);
      if (each.standing == router::Standing::kOut) out_ms.push_back(each.at_ms);
      if (each.standing == router::Standing::kIn) in_ms.push_back(each.at_ms);
    }
    EXPECT_TRUE(without.standings.empty());
    ASSERT_FALSE(out_ms.empty());
    EXPECT_LT(out_ms[0], kSlowFromMs + 15'000);
    if (kSanitized) continue;  // too few requests for the rest
    EXPECT_GT(out_ms.size(), 2u) << "each probe found it slow";
    ASSERT_EQ(in_ms.size(), 1u);
    EXPECT_GT(in_ms[0], kSlowUntilMs);
    EXPECT_LT(in_ms[0], kSlowUntilMs + 75'000);
    EXPECT_GT(share(with, kSlowFromMs + 15'000, kSlowUntilMs), 0.97);
    EXPECT_GT(share(with, in_ms[0], 1e9), 0.97);
  }
}

}  // namespace
}  // namespace baton::sim
