// Offered load far above what a cluster holds. All figures are simulated.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>

#include "tests/unit/sim/traffic.h"

namespace baton::sim {
namespace {

using router::Role;
using router::SloResult;

std::vector<SimRequest> Fixed(uint64_t seed, double rate_per_s, size_t count) {
  return Poisson(seed, rate_per_s, count,
                 {.prompt = 512, .output = 64, .slo = {.ttft_ms = 1295, .tpot_ms = 12.9}});
}

struct Figures {
  double offered = 0, good = 0, admitted = 0, ttft_miss = 0, tpot_miss = 0;
  double ttft_p50 = 0, ttft_p99 = 0;
};

// Of the requests that come after `from_ms`.
Figures Offer(const SimOptions& options, const std::vector<SimRequest>& requests,
              double from_ms = 0) {
  const SimResult result = Simulator(options).Run(requests);
  const double seconds = (requests.back().arrival_ms - from_ms) / 1000;
  Figures run;
  std::vector<double> ttfts;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].arrival_ms < from_ms) continue;
    ++run.offered;
    const SimOutcome& each = result.outcomes[i];
    if (each.result == SloResult::kRejected) continue;
    ttfts.push_back(each.ttft_ms);
    run.good += each.result == SloResult::kGood;
    run.ttft_miss += each.result == SloResult::kTtftMiss || each.result == SloResult::kBoth;
    run.tpot_miss += each.result == SloResult::kTpotMiss || each.result == SloResult::kBoth;
  }
  std::sort(ttfts.begin(), ttfts.end());
  run.ttft_p50 = ttfts[ttfts.size() / 2];
  run.ttft_p99 = ttfts[ttfts.size() * 99 / 100];
  run.ttft_miss /= static_cast<double>(ttfts.size());
  run.tpot_miss /= static_cast<double>(ttfts.size());
  run.offered /= seconds;
  run.good /= seconds;
  run.admitted = static_cast<double>(ttfts.size()) / seconds;
  return run;
}

SimOptions Cluster(bool in_place, double slowdown = 1) {
  SimOptions options;
  options.workers = {{.role = Role::kPrefill, .model = kCpuCore, .slowdown = slowdown},
                     {.role = Role::kDecode, .model = kCpuCore, .slowdown = slowdown}};
  options.message_ms = 0.3;
  options.transfer_ms_per_token = 0.01;
  options.report_ms = 100;
  options.core.conditional_disaggregation = in_place;
  return options;
}

void Print(double rate, const Figures& run) {
  std::cout << rate << "/s: good " << run.good << "/s, admitted " << run.admitted
            << "/s, of these missed TTFT " << run.ttft_miss << ", TPOT " << run.tpot_miss
            << "; TTFT p50 " << run.ttft_p50 << " ms, p99 " << run.ttft_p99 << " ms (simulated)\n";
}

// Prompts of 16 to 2,000 tokens: the longer ones start earlier, before others that were let in. The
// others missed when only a request's own forecast was asked: at 12/s 33 % without prompts in place
// and 20 % with them, and were served 15 s after their arrival.
TEST(Overload, ThoseWhoAreLetInAreServedInTimeWhateverComesAfterThem) {
  for (const bool in_place : {false, true}) {
    std::cout << (in_place ? "with" : "without") << " prompts in place\n";
    double best = 0, p99_at_peak = 0;
    for (const double rate : {3.0, 5.0, 8.0, 15.0}) {
      if (kSanitized && rate > 3) break;
      const Figures run = Offer(Cluster(in_place), CodeCompletions(1, rate, 1500));
      Print(rate, run);
      EXPECT_LT(run.ttft_miss, 0.05);
      EXPECT_GT(run.good, 0.95 * best) << "more is asked, less is done";
      if (run.good > best) best = run.good;
      if (p99_at_peak == 0) p99_at_peak = run.ttft_p99;
      EXPECT_LT(run.ttft_p99, 2 * p99_at_peak);
    }
  }
}

TEST(Overload, EqualPromptsAreServedInTheOrderOfTheirArrival) {
  double best = 0;
  for (const double rate : {2.0, 6.0}) {
    if (kSanitized && rate > 2) break;
    const Figures run = Offer(Cluster(true), Fixed(1, rate, 1000));
    Print(rate, run);
    EXPECT_LT(run.ttft_miss, 0.01);
    EXPECT_GT(run.good, best);
    best = run.good;
  }
}

// Decode workers that refuse reservations are what holds the queue up, though prefill workers could
// go on. While they refused, no forecast was made, and everybody was let in. How much longer the
// queue takes for it has to be learned: of the first half minute nothing is asked.
TEST(Overload, DecodeWorkersWithoutRoomCountAsWell) {
  for (const bool in_place : {false, true}) {
    std::cout << (in_place ? "with" : "without") << " prompts in place\n";
    SimOptions options = Cluster(in_place);
    options.workers[1].batch_sequences = 4;
    double best = 0;
    for (const double rate : {4.0, 8.0, 24.0}) {
      if (kSanitized && rate > 4) break;
      const Figures run =
          Offer(options,
                Poisson(1, rate, static_cast<size_t>(200 * rate),
                        {.prompt = 128, .output = 96, .slo = {.ttft_ms = 1500, .tpot_ms = 20}}),
                30'000);
      Print(rate, run);
      EXPECT_LT(run.ttft_miss, 0.05);
      EXPECT_GT(run.good, 0.9 * best) << "more is asked, less is done";
      best = std::max(best, run.good);
    }
  }
}

}  // namespace
}  // namespace baton::sim
