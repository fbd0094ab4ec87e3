#include "bench/sweep/core/goodput_curve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "bench/load/core/random.h"

namespace baton::sweep {
namespace {

using testing::DoubleNear;

// `good` of `count`, the misses at the end.
Observation At(double rate, int good, int count) {
  Observation run{.rate_per_s = rate, .seed = 1, .good = {}};
  for (int i = 0; i < count; ++i) run.good.push_back(i < good ? 1 : 0);
  return run;
}

TEST(GoodputCurve, InterpolatesBetweenTheRatesOnEachSideOfTheLevel) {
  const std::vector<Observation> runs = {At(3, 80, 100), At(1, 100, 100), At(2, 95, 100)};
  const GoodputCurve curve(runs);
  EXPECT_NEAR(curve.Crossing(0.9), 2 + 5.0 / 15, 1e-12);
  EXPECT_NEAR(curve.Crossing(0.99), 1.2, 1e-12);
  EXPECT_FALSE(curve.AllReach(0.9));
}

TEST(GoodputCurve, HasNoCrossingWhereNothingReachesTheLevelAndALowerBoundWhereAllDo) {
  const std::vector<Observation> bad = {At(1, 50, 100)};
  EXPECT_EQ(GoodputCurve(bad).Crossing(0.9), 0);
  const std::vector<Observation> good = {At(1, 100, 100), At(4, 95, 100)};
  EXPECT_EQ(GoodputCurve(good).Crossing(0.9), 4);
  EXPECT_TRUE(GoodputCurve(good).AllReach(0.9));
  EXPECT_EQ(GoodputCurve({}).Crossing(0.9), 0);
  EXPECT_FALSE(GoodputCurve({}).AllReach(0.9));
}

TEST(GoodputCurve, PoolsRunsOfOneRateAndSmoothsARise) {
  const std::vector<Observation> runs = {At(1, 80, 100), At(1, 20, 20), At(2, 99, 100)};
  const GoodputCurve curve(runs);
  ASSERT_EQ(curve.points().size(), 2u);
  // 199 of 220 over both rates: the rise from 83 % to 99 % is noise.
  EXPECT_NEAR(curve.points()[0].share, 199.0 / 220, 1e-12);
  EXPECT_NEAR(curve.points()[1].share, 199.0 / 220, 1e-12);
}

TEST(GoodputCurve, ARunWithoutRequestsSaysNothing) {
  const std::vector<Observation> runs = {At(1, 100, 100), At(2, 0, 0)};
  EXPECT_EQ(GoodputCurve(runs).points().size(), 1u);
}

TEST(Resamples, CoverTheTruthAboutAsOftenAsTheySay) {
  // The true share falls from 1 at 1/s to 0.8 at 3/s in a line: 90 % at 2/s.
  load::Rng rng(7, 0);
  int covered = 0;
  constexpr int kTrials = 200;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<Observation> runs;
    for (const double rate : {1.4, 1.8, 2.2, 2.6}) {
      Observation run{.rate_per_s = rate, .seed = 1, .good = {}};
      for (int i = 0; i < 400; ++i) run.good.push_back(rng.Uniform() < 1.1 - rate / 10 ? 1 : 0);
      runs.push_back(run);
    }
    const Estimate found = WithInterval(GoodputCurve(runs).Crossing(0.9),
                                        ResampleCrossings(runs, 0.9, static_cast<uint64_t>(trial)));
    EXPECT_LE(found.low, found.value);
    EXPECT_GE(found.high, found.value);
    covered += found.low <= 2 && 2 <= found.high ? 1 : 0;
  }
  EXPECT_GE(covered, kTrials * 0.88);
}

TEST(Resamples, AreWiderWhereMissesComeInBursts) {
  Observation spread{.rate_per_s = 2, .seed = 1, .good = {}};
  Observation burst = spread;
  for (int i = 0; i < 200; ++i) {
    spread.good.push_back(i % 10 == 0 ? 0 : 1);
    burst.good.push_back(i < 20 ? 0 : 1);
  }
  const auto width = [](const Observation& run) {
    const std::vector<Observation> runs = {At(1, 100, 100), run, At(3, 0, 100)};
    const Estimate found = WithInterval(2, ResampleCrossings(runs, 0.9, 3));
    return found.high - found.low;
  };
  EXPECT_GT(width(burst), 1.5 * width(spread));
}

TEST(Resamples, AreTheSameForTheSameSeed) {
  const std::vector<Observation> runs = {At(1, 95, 100), At(2, 80, 100)};
  EXPECT_EQ(ResampleCrossings(runs, 0.9, 5), ResampleCrossings(runs, 0.9, 5));
  EXPECT_NE(ResampleCrossings(runs, 0.9, 5), ResampleCrossings(runs, 0.9, 6));
}

TEST(Ratio, IsInfiniteOverNothingAndCarriesAnInterval) {
  const std::vector<double> ours = {2, 2, 2, 2};
  const std::vector<double> none = {0, 0, 0, 0};
  EXPECT_TRUE(std::isinf(RatioOf(2, 0, ours, none).value));
  EXPECT_EQ(RatioOf(0, 0, none, none).value, 0);
  const Estimate ratio = RatioOf(2, 1, ours, std::vector<double>{0.5, 1, 1, 2});
  EXPECT_EQ(ratio.value, 2);
  EXPECT_THAT(ratio.low, DoubleNear(1, 1e-12));
  EXPECT_GE(ratio.high, 2);
}

}  // namespace
}  // namespace baton::sweep
