// What prompts in place are worth where prefill is nearly all of the work, as in code completion: a
// mean prompt of 500 tokens, a third of the outputs two tokens long, one prefill and one decode
// worker. All figures are simulated.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>

#include "tests/unit/sim/traffic.h"

namespace baton::sim {
namespace {

using router::Role;
using router::SloResult;

struct Share {
  double good = 0;
  double tpot_miss = 0;
};

Share Offer(const SimOptions& options, double rate_per_s) {
  Share share;
  constexpr int kSeeds = kSanitized ? 1 : 4;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const SimResult result =
        Simulator(options).Run(CodeCompletions(seed, rate_per_s, kSanitized ? 100 : 500));
    share.good += result.GoodShare() / kSeeds;
    for (const SimOutcome& each : result.outcomes) {
      share.tpot_miss += (each.result == SloResult::kTpotMiss ? 1.0 : 0.0) /
                         static_cast<double>(kSeeds * result.outcomes.size());
    }
  }
  return share;
}

SimOptions Cluster(Role first, Role second, bool in_place) {
  SimOptions options;
  options.workers = {{.role = first, .model = kCpuCore}, {.role = second, .model = kCpuCore}};
  options.message_ms = 0.3;
  options.transfer_ms_per_token = 0.01;
  options.report_ms = 100;
  options.core.conditional_disaggregation = in_place;
  return options;
}

TEST(InPlace, LongPromptsRaiseGoodputWhereOutputsAreShort) {
  for (const double rate : {1.5, 2.5, 3.5}) {
    const Share off = Offer(Cluster(Role::kPrefill, Role::kDecode, false), rate);
    const Share on = Offer(Cluster(Role::kPrefill, Role::kDecode, true), rate);
    const Share both = Offer(Cluster(Role::kBoth, Role::kBoth, false), rate);
    std::cout << rate << "/s, good: " << on.good << " (TPOT missed " << on.tpot_miss
              << "), without in place " << off.good << " (" << off.tpot_miss << "), colocated "
              << both.good << " (" << both.tpot_miss << "), simulated\n";
    if (kSanitized) continue;
    EXPECT_GT(on.good, 0.98);
    EXPECT_LT(on.tpot_miss, 0.02) << "rows of handoffs do not pay for it";
    if (rate > 3) {
      EXPECT_LT(off.good, 0.8) << "one core cannot prefill that much";
    }
  }
}

}  // namespace
}  // namespace baton::sim
