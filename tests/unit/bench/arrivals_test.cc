#include "bench/load/core/arrivals.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/load/core/stats.h"

namespace baton::load {
namespace {

using ::testing::HasSubstr;

std::vector<double> GapsOf(const std::vector<absl::Duration>& arrivals) {
  std::vector<double> gaps;
  absl::Duration before;
  for (const absl::Duration at : arrivals) {
    gaps.push_back(absl::ToDoubleSeconds(at - before));
    before = at;
  }
  return gaps;
}

std::vector<absl::Duration> Make(const ArrivalSpec& spec, int64_t count, uint64_t seed = 7) {
  auto arrivals = MakeArrivals(spec, {.max_requests = count}, Rng(seed, 1));
  EXPECT_TRUE(arrivals.ok()) << arrivals.status();
  return *std::move(arrivals);
}

int64_t CountBetween(const std::vector<absl::Duration>& arrivals, double from_s, double to_s) {
  return std::count_if(arrivals.begin(), arrivals.end(), [&](absl::Duration at) {
    return at >= absl::Seconds(from_s) && at < absl::Seconds(to_s);
  });
}

struct GapCase {
  ArrivalSpec spec;
  double cv;
};

class GapTest : public ::testing::TestWithParam<GapCase> {};

TEST_P(GapTest, MeanAndVariationAreTheOnesAskedFor) {
  for (const uint64_t seed : {1, 2, 3}) {
    SCOPED_TRACE(seed);
    const Distribution gaps = Describe(GapsOf(Make(GetParam().spec, 200'000, seed)));
    const double mean_s = 1 / GetParam().spec.rate_per_s;
    EXPECT_NEAR(gaps.mean, mean_s, mean_s * 0.02);
    EXPECT_NEAR(gaps.deviation / gaps.mean, GetParam().cv, std::max(0.04 * GetParam().cv, 1e-6));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, GapTest,
    ::testing::Values(GapCase{{.kind = ArrivalKind::kPoisson, .rate_per_s = 4}, 1},
                      GapCase{{.kind = ArrivalKind::kGamma, .rate_per_s = 4, .cv = 0.5}, 0.5},
                      GapCase{{.kind = ArrivalKind::kGamma, .rate_per_s = 4, .cv = 1}, 1},
                      GapCase{{.kind = ArrivalKind::kGamma, .rate_per_s = 0.5, .cv = 3}, 3},
                      GapCase{{.kind = ArrivalKind::kConstant, .rate_per_s = 10}, 0}));

TEST(Arrivals, AreTheSameForTheSameSeedAndDifferForAnother) {
  for (const ArrivalKind kind : {ArrivalKind::kPoisson, ArrivalKind::kGamma, ArrivalKind::kBurst}) {
    const ArrivalSpec spec{.kind = kind, .rate_per_s = 3, .cv = 2};
    EXPECT_EQ(Make(spec, 100, 5), Make(spec, 100, 5));
    EXPECT_NE(Make(spec, 100, 5), Make(spec, 100, 6));
  }
}

TEST(Arrivals, FirstPoissonTimesOfSeedOneNeverChange) {
  // A change here makes every published figure's seed mean something else.
  const auto arrivals = Make({.rate_per_s = 1}, 3, 1);
  EXPECT_EQ(absl::ToInt64Microseconds(arrivals[0]), 1101868);
  EXPECT_EQ(absl::ToInt64Microseconds(arrivals[1]), 1533425);
  EXPECT_EQ(absl::ToInt64Microseconds(arrivals[2]), 1615069);
}

TEST(Arrivals, RampRaisesTheRateInALine) {
  const ArrivalSpec spec{.kind = ArrivalKind::kRamp, .rate_per_s = 10, .ramp_to_per_s = 90};
  const auto arrivals = MakeArrivals(spec, {.duration = absl::Seconds(1000)}, Rng(3, 1));
  ASSERT_TRUE(arrivals.ok());
  EXPECT_NEAR(static_cast<double>(arrivals->size()), 50'000, 1000);
  EXPECT_NEAR(static_cast<double>(CountBetween(*arrivals, 0, 100)), 1400, 150);     // 14/s
  EXPECT_NEAR(static_cast<double>(CountBetween(*arrivals, 450, 550)), 5000, 300);   // 50/s
  EXPECT_NEAR(static_cast<double>(CountBetween(*arrivals, 900, 1000)), 8600, 400);  // 86/s
}

TEST(Arrivals, RampByCountReachesItsEndWithTheLastRequest) {
  const ArrivalSpec spec{.kind = ArrivalKind::kRamp, .rate_per_s = 30, .ramp_to_per_s = 10};
  const auto arrivals = Make(spec, 20'000);
  EXPECT_NEAR(absl::ToDoubleSeconds(arrivals.back()), 1000, 25);
  EXPECT_NEAR(static_cast<double>(CountBetween(arrivals, 0, 100)), 2900, 200);
  EXPECT_NEAR(static_cast<double>(CountBetween(arrivals, 850, 950)), 1200, 150);
}

TEST(Arrivals, BurstIsSilentInBetweenAndKeepsTheMeanRate) {
  const ArrivalSpec spec{.kind = ArrivalKind::kBurst,
                         .rate_per_s = 5,
                         .burst_on = absl::Seconds(2),
                         .burst_off = absl::Seconds(8)};
  const auto arrivals = Make(spec, 50'000);
  for (const absl::Duration at : arrivals) {
    ASSERT_LE(absl::ToDoubleSeconds(at % absl::Seconds(10)), 2.000001);
  }
  EXPECT_NEAR(50'000 / absl::ToDoubleSeconds(arrivals.back()), 5, 0.1);
}

TEST(Arrivals, AscendAndEndAtTheDuration) {
  for (const ArrivalKind kind : {ArrivalKind::kPoisson, ArrivalKind::kGamma, ArrivalKind::kConstant,
                                 ArrivalKind::kRamp, ArrivalKind::kBurst}) {
    const ArrivalSpec spec{.kind = kind, .rate_per_s = 50, .cv = 4, .ramp_to_per_s = 20};
    const auto arrivals = MakeArrivals(spec, {.duration = absl::Seconds(20)}, Rng(9, 1));
    ASSERT_TRUE(arrivals.ok());
    ASSERT_GT(arrivals->size(), 100u);
    EXPECT_TRUE(std::is_sorted(arrivals->begin(), arrivals->end()));
    EXPECT_LT(arrivals->back(), absl::Seconds(20));
    EXPECT_GE(arrivals->front(), absl::ZeroDuration());
  }
}

TEST(Arrivals, ImpossibleSpecsSayWhy) {
  const auto why = [](const ArrivalSpec& spec, const RunLimit& limit) {
    return std::string(MakeArrivals(spec, limit, Rng(1, 1)).status().message());
  };
  const RunLimit ten{.max_requests = 10};
  EXPECT_THAT(why({.rate_per_s = 0}, ten), HasSubstr("rate: 0"));
  EXPECT_THAT(why({.kind = ArrivalKind::kGamma, .cv = 0}, ten), HasSubstr("cv: 0"));
  EXPECT_THAT(why({.kind = ArrivalKind::kRamp}, ten), HasSubstr("ramp_to: 0"));
  EXPECT_THAT(why({.kind = ArrivalKind::kBurst, .burst_on = absl::ZeroDuration()}, ten),
              HasSubstr("burst_on"));
  EXPECT_THAT(why({}, {}), HasSubstr("no end"));
  EXPECT_THAT(why({.rate_per_s = 1e6}, {.duration = absl::Hours(200)}), HasSubstr("100 million"));
}

}  // namespace
}  // namespace baton::load
