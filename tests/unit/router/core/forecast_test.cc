// What is foreseen for a request before it is placed, and how wrong that has been.
#include <gtest/gtest.h>

#include "router/core/placement.h"
#include "router/core/predictor.h"
#include "tests/unit/router/core/placement_fixture.h"

namespace baton::router {
namespace {

TEST_F(PlacementTest, ForecastsWhatIsQueuedAheadAndTheFloor) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kPrefill);
  AddKnown(2, Role::kDecode);
  in_place_ = false;
  cluster_.TakeCredit(kNow, WorkerIndex(0), 500);
  cluster_.TakeCredit(kNow, WorkerIndex(1), 40);
  const Forecast forecast = Foresee({.prefill_us = 60'000, .rows = 3, .context = 300});
  ASSERT_TRUE(forecast.known);
  EXPECT_DOUBLE_EQ(forecast.floor_ttft_ms, 14.8);
  EXPECT_DOUBLE_EQ(forecast.floor_tpot_ms, 5);
  EXPECT_DOUBLE_EQ(forecast.ttft_ms, 40 + 30 + 14.8) << "two workers share the 60 ms";
}

TEST_F(PlacementTest, ForecastsAlsoWhileDecodeWorkersHaveNoRoom) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  const double ttft_ms = Foresee({.prefill_us = 60'000}).ttft_ms;
  cluster_.RefusedForRoom(kNow, WorkerIndex(1));
  const Forecast forecast = Foresee({.prefill_us = 60'000});
  ASSERT_TRUE(forecast.known) << "or admission lets everybody in";
  EXPECT_DOUBLE_EQ(forecast.ttft_ms, ttft_ms);
}

TEST_F(PlacementTest, ForecastsThatDecodeWorkersTakeTheirShareOfWhatIsQueued) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  cluster_.TakeCredit(kNow, WorkerIndex(0), 500);
  cluster_.TakeCredit(kNow, WorkerIndex(1), 20);
  EXPECT_DOUBLE_EQ(Foresee().ttft_ms, 20 + 14.8);
  const double handoff_ms = 500 + 14.8 + 20;  // it joins when the prompt in place is done
  EXPECT_DOUBLE_EQ(Foresee({.prefill_us = 60'000}).ttft_ms, handoff_ms + 60);
  in_place_share_ = 0.5;
  const Forecast forecast = Foresee({.prefill_us = 60'000});
  EXPECT_DOUBLE_EQ(forecast.ttft_ms, (20 + 14.8 + handoff_ms) / 2 + 30);
  EXPECT_DOUBLE_EQ(forecast.ms_per_ms, 0.5);
  EXPECT_DOUBLE_EQ(forecast.start_ms, forecast.ttft_ms - 30 - 14.8);
}

TEST_F(PlacementTest, ForecastsTheStepWithWhatIsStillOnItsWay) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  in_place_ = false;
  query_.expected_output = 1000;
  EXPECT_DOUBLE_EQ(Foresee().tpot_ms, 5);
  EXPECT_DOUBLE_EQ(Foresee({.prefill_us = 1000, .rows = 6}).tpot_ms, 11)
      << "queued now, decoding by then";
  for (int i = 0; i < 5; ++i) {
    cluster_.AddRow(WorkerIndex(1),
                    {.samples = 1, .expected = 1000, .most = 1000, .starts_ms = MsOf(kNow)});
  }
  EXPECT_DOUBLE_EQ(Foresee().tpot_ms, 10) << "in prefill now, decoding by then";
  query_.objective.tpot_ms = 5;
  EXPECT_GT(Foresee().tpot_relief_ms, 1000) << "half of the rows must end first";
}

TEST(WaitError, CoversNearlyAllOfWhatTheQueueTakesLonger) {
  WaitError error;
  error.Observe(1, 100);
  EXPECT_EQ(error.factor(), 1) << "nothing was forecast to wait";
  // Evenly between 0.8 and 1.4 times the forecast.
  double missed = 0;
  for (int i = 0; i < 4000; ++i) {
    const double actual_ms = 800 + 600 * ((i * 37) % 100) / 99.0;
    if (i >= 2000) missed += actual_ms > 1000 * error.factor();
    error.Observe(1000, actual_ms);
  }
  EXPECT_NEAR(missed / 2000, 0.02, 0.015);
  EXPECT_NEAR(error.factor(), 1.38, 0.05);
}

TEST(WaitError, MovesLittleForOneOutlierAndForgets) {
  WaitError error;
  error.Observe(100, 1e9);
  EXPECT_LT(error.factor(), 1.05) << "one outlier";
  for (int i = 0; i < 200; ++i) error.Observe(1000, 2000);
  EXPECT_NEAR(error.factor(), 2, 0.06);
  for (int i = 0; i < 2000; ++i) error.Observe(1000, 900);
  EXPECT_EQ(error.factor(), 1);
}

}  // namespace
}  // namespace baton::router
