#include "bench/sweep/core/rate_search.h"

#include <gtest/gtest.h>

#include <cmath>

namespace baton::sweep {
namespace {

constexpr double kLevel = 0.9;

// An arm that holds up to `capacity` and nothing above.
Observation Step(double rate, double capacity) {
  return {.rate_per_s = rate,
          .seed = 1,
          .good = std::vector<unsigned char>(100, rate <= capacity ? 1 : 0)};
}

std::vector<Observation> Find(double capacity, const SearchOptions& options) {
  std::vector<Observation> runs;
  while (const auto rate = NextRate(runs, kLevel, options)) {
    runs.push_back(Step(*rate, capacity));
    if (runs.size() > 50) break;
  }
  return runs;
}

TEST(RateSearch, BracketsAnyCapacityAsNarrowlyAsAskedFor) {
  for (const double capacity : {0.07, 0.31, 1.0, 1.9, 17.0, 640.0}) {
    const SearchOptions options{.first_rate_per_s = 1, .tolerance = 0.05};
    const std::vector<Observation> runs = Find(capacity, options);
    const Bracket bracket = BracketOf(runs, kLevel);
    EXPECT_LE(bracket.low_per_s, capacity);
    EXPECT_GT(bracket.high_per_s, capacity);
    EXPECT_LE(bracket.high_per_s, bracket.low_per_s * 1.05 + 1e-9);
    EXPECT_LE(runs.size(), 16u) << capacity;
  }
}

TEST(RateSearch, EndsAtItsBounds) {
  const SearchOptions options{
      .first_rate_per_s = 1, .least_rate_per_s = 0.1, .most_rate_per_s = 20};
  const std::vector<Observation> none = Find(0, options);
  EXPECT_EQ(none.back().rate_per_s, 0.1);
  EXPECT_EQ(GoodputCurve(none).Crossing(kLevel), 0);
  const std::vector<Observation> all = Find(1e9, options);
  EXPECT_EQ(all.back().rate_per_s, 20);
  EXPECT_TRUE(GoodputCurve(all).AllReach(kLevel));
}

TEST(RateSearch, GoesOnFromWhatWasMeasuredForAnotherLevel) {
  const SearchOptions options{.first_rate_per_s = 1, .tolerance = 0.1};
  // 99 % up to 1/s, 95 % up to 4/s.
  const auto run = [](double rate) {
    Observation observed = Step(rate, 4);
    for (size_t i = 0; rate > 1 && i < 5; ++i) observed.good[i] = 0;
    return observed;
  };
  std::vector<Observation> runs;
  while (const auto rate = NextRate(runs, kLevel, options)) runs.push_back(run(*rate));
  const size_t before = runs.size();
  while (const auto rate = NextRate(runs, 0.99, options)) runs.push_back(run(*rate));
  EXPECT_GT(runs.size(), before);
  EXPECT_NEAR(BracketOf(runs, 0.99).low_per_s, 1, 0.11);
  EXPECT_NEAR(BracketOf(runs, kLevel).low_per_s, 4, 0.4);
}

TEST(RateSearch, OneUnluckyRunDoesNotMisleadIt) {
  const SearchOptions options{.first_rate_per_s = 1, .tolerance = 0.1};
  Observation unlucky = Step(1, 4);
  for (size_t i = 0; i < 15; ++i) unlucky.good[i] = 0;
  const std::vector<Observation> runs = {unlucky, Step(0.5, 4), Step(0.7, 4), Step(2, 4)};
  const auto next = NextRate(runs, kLevel, options);
  ASSERT_TRUE(next.has_value());
  EXPECT_GT(*next, 2);
}

}  // namespace
}  // namespace baton::sweep
