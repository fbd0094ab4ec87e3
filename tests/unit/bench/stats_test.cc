#include "bench/load/core/stats.h"

#include <gtest/gtest.h>

namespace baton::load {
namespace {

TEST(Percentile, InterpolatesBetweenClosestRanksAsNumpyDoes) {
  const std::vector<double> four = {10, 20, 30, 40};
  EXPECT_DOUBLE_EQ(Percentile(four, 0), 10);
  EXPECT_DOUBLE_EQ(Percentile(four, 50), 25);
  EXPECT_DOUBLE_EQ(Percentile(four, 90), 37);    // numpy.percentile([10,20,30,40], 90)
  EXPECT_DOUBLE_EQ(Percentile(four, 99), 39.7);  // numpy.percentile([10,20,30,40], 99)
  EXPECT_DOUBLE_EQ(Percentile(four, 100), 40);
  EXPECT_DOUBLE_EQ(Percentile(std::vector<double>{7}, 99), 7);
  EXPECT_DOUBLE_EQ(Percentile({}, 50), 0);
}

TEST(Describe, CountsMeansAndDeviation) {
  const Distribution d = Describe({4, 2, 8, 6});
  EXPECT_EQ(d.count, 4);
  EXPECT_DOUBLE_EQ(d.mean, 5);
  EXPECT_NEAR(d.deviation, 2.58199, 1e-5);
  EXPECT_DOUBLE_EQ(d.min, 2);
  EXPECT_DOUBLE_EQ(d.p50, 5);
  EXPECT_DOUBLE_EQ(d.max, 8);
  EXPECT_EQ(Describe({}).count, 0);
  EXPECT_DOUBLE_EQ(Describe({3}).deviation, 0);
}

TEST(ConfidenceInterval, IsStudentsForFewRepeats) {
  const std::vector<double> five = {9, 10, 11, 10, 10};
  const Interval interval = ConfidenceInterval(five);
  EXPECT_DOUBLE_EQ(interval.mean, 10);
  EXPECT_NEAR(interval.half_width, 2.776 * 0.70711 / 2.23607, 1e-4);
  EXPECT_DOUBLE_EQ(ConfidenceInterval(std::vector<double>{4}).half_width, 0);
}

TEST(Histogram, HoldsEverySampleOnce) {
  const std::vector<double> samples = {1, 2, 3, 64, 64, 95, 96, 127, 5000};
  const auto bins = Histogram(samples);
  int64_t total = 0;
  for (const Bin& bin : bins) {
    EXPECT_LT(bin.low, bin.high);
    const int64_t inside = std::count_if(samples.begin(), samples.end(), [&](double sample) {
      return sample >= bin.low && sample < bin.high;
    });
    EXPECT_EQ(bin.count, inside) << bin.low;
    total += bin.count;
  }
  EXPECT_EQ(total, 9);
  EXPECT_TRUE(Histogram({}).empty());
}

}  // namespace
}  // namespace baton::load
