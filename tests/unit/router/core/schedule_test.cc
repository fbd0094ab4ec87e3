// Random schedules: every order of events that the streams allow, with losses, from printed seeds.
#include <gtest/gtest.h>

#include <iostream>

#include "tests/unit/router/core/cluster_sim.h"

namespace baton::router {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSchedules = 4'000;
#else
constexpr uint64_t kSchedules = 100'000;
#endif
constexpr uint64_t kFirstSeed = 20'240'000;

// Shapes of cluster that a seed chooses from.
SimOptions OptionsFor(uint64_t seed) {
  SimOptions options{.seed = seed};
  switch (seed % 6) {
    case 0:
      options.prefill_workers = 1;
      options.decode_workers = 1;
      break;
    case 1:
      break;
    case 2:
      options.prefill_workers = options.decode_workers = 0;
      options.both_workers = 2;
      break;
    case 3:
      options.decode_workers = 1;
      options.room = 1;
      break;
    case 4:
      options.death_rate = 0.05;
      options.both_workers = 1;
      break;
    case 5:
      options.step_models = true;
      break;
  }
  return options;
}

TEST(Schedules, KeepEveryInvariant) {
  std::cout << "seeds " << kFirstSeed << " to " << kFirstSeed + kSchedules - 1 << "\n";
  int64_t completed = 0, failed = 0, retried = 0, in_place = 0, resyncs = 0;
  std::map<RequestErrorCode, int64_t> errors;
  for (uint64_t seed = kFirstSeed; seed < kFirstSeed + kSchedules; ++seed) {
    const SimReport report = ClusterSim(OptionsFor(seed)).Run();
    ASSERT_EQ(report.violation, "") << "seed " << seed;
    completed += report.completed;
    failed += report.failed;
    retried += report.retried;
    in_place += report.in_place;
    resyncs += report.resyncs;
    for (const auto& [code, count] : report.errors) errors[code] += count;
  }
  std::cout << completed << " completed, " << retried << " of them after a retry; " << failed
            << " failed; by error code:";
  for (const auto& [code, count] : errors) {
    std::cout << " " << static_cast<int>(code) << ":" << count;
  }
  std::cout << "; " << in_place << " in place, " << resyncs << " resyncs\n";
  // The schedules reach what they are meant to test.
  EXPECT_GT(completed, failed);
  EXPECT_GT(retried, static_cast<int64_t>(kSchedules / 50));
  for (const RequestErrorCode code :
       {RequestErrorCode::kAborted, RequestErrorCode::kPrefillLost, RequestErrorCode::kDecodeLost,
        RequestErrorCode::kQuarantined, RequestErrorCode::kDeadline}) {
    EXPECT_GT(errors[code], 0) << static_cast<int>(code);
  }
  EXPECT_EQ(errors[RequestErrorCode::kInternal], 0);
  EXPECT_GT(in_place, 100);
  EXPECT_GT(resyncs, 100);
  EXPECT_GT(errors[RequestErrorCode::kOverloaded], 0) << "by forecast";
}

class DefectTest : public ::testing::TestWithParam<Defect> {};

TEST_P(DefectTest, IsNoticed) {
  for (uint64_t seed = kFirstSeed; seed < kFirstSeed + 500; ++seed) {
    SimOptions options = OptionsFor(seed);
    options.defect = GetParam();
    options.cancel_rate = 0.05;
    if (const SimReport report = ClusterSim(options).Run(); !report.violation.empty()) {
      std::cout << "seed " << seed << ": " << report.violation << "\n";
      return;
    }
  }
  FAIL() << "no schedule noticed it";
}

INSTANTIATE_TEST_SUITE_P(All, DefectTest,
                         ::testing::Values(Defect::kDoubleTerminal, Defect::kLostCancel,
                                           Defect::kDuplicateToken, Defect::kSkippedToken,
                                           Defect::kTokenAfterEnd, Defect::kSuccessAfterLoss));

}  // namespace
}  // namespace baton::router
