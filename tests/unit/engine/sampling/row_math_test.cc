#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "engine/sampling/float_math.h"
#include "engine/sampling/select_top.h"

namespace baton {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr size_t kOddSizes[] = {1, 2, 7, 8, 9, 31, 257, 1000};

TEST(ExpTest, IsWithinThreeInTenMillion) {
  double worst = 0;
  for (float x = -86.999f; x <= 0; x += 0.00037f) {
    const double expected = std::exp(double{x});
    worst = std::max(worst, std::abs(double{ExpNonPositive(x)} - expected) / expected);
  }
  EXPECT_LT(worst, 3e-7);
  EXPECT_EQ(ExpNonPositive(0), 1.0f);
  EXPECT_EQ(ExpNonPositive(-87), 0.0f);
  EXPECT_EQ(ExpNonPositive(-kInfinity), 0.0f);
}

TEST(ScanRowTest, FindsBrokenValuesAtEveryPlace) {
  for (const size_t size : kOddSizes) {
    for (size_t bad = 0; bad < size; bad += std::max<size_t>(size / 13, 1)) {
      std::vector<float> row(size, -1.0f);
      row[bad] = 2.0f;
      EXPECT_TRUE(ScanRow(row).valid);
      EXPECT_EQ(ScanRow(row).max, 2.0f);
      EXPECT_EQ(IndexOf(row, 2.0f), static_cast<int32_t>(bad));
      row[bad] = kNan;
      EXPECT_FALSE(ScanRow(row).valid);
      row[bad] = kInfinity;
      EXPECT_FALSE(ScanRow(row).valid);
      row[bad] = -kInfinity;
      EXPECT_EQ(ScanRow(row).valid, size > 1);
    }
  }
}

TEST(IndexOfTest, TakesTheLowestOfEquals) {
  std::vector<float> row(100, 0.0f);
  row[41] = row[42] = row[97] = 3.0f;
  EXPECT_EQ(IndexOf(row, 3.0f), 41);
}

TEST(SumRowTest, AddsUpAtOddSizes) {
  for (const size_t size : kOddSizes) {
    std::vector<float> row(size);
    for (size_t i = 0; i < size; ++i) row[i] = static_cast<float>(i);
    EXPECT_EQ(SumRow(row), static_cast<double>(size * (size - 1) / 2));
  }
}

// The loops are compiled for several instruction sets; what one machine draws, all must draw.
TEST(RowLoopTest, GiveTheBitsOfTheirDefinition) {
  std::mt19937_64 random(4);
  std::normal_distribution<float> normal(0.0f, 5.0f);
  for (const size_t size : kOddSizes) {
    std::vector<float> row(size);
    for (float& value : row) value = normal(random);
    const float max = ScanRow(row).max;
    EXPECT_EQ(max, *std::ranges::max_element(row));
    std::vector<float> weights(size);
    ExpRow(row, max, 1.25f, weights);
    double lanes[8] = {};
    double total = 0;
    for (size_t i = 0; i < size; ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(weights[i]),
                std::bit_cast<uint32_t>(ExpNonPositive((row[i] - max) * 1.25f)));
      if (i < size / 8 * 8) lanes[i % 8] += double{weights[i]};
    }
    for (const double lane : lanes) total += lane;
    for (size_t i = size / 8 * 8; i < size; ++i) total += double{weights[i]};
    EXPECT_EQ(std::bit_cast<uint64_t>(SumRow(weights)), std::bit_cast<uint64_t>(total));
  }
}

TEST(SelectTopTest, AgreesWithASortForEveryCount) {
  constexpr uint64_t kSeed = 3;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937_64 random(kSeed);
  for (const size_t size : kOddSizes) {
    std::vector<float> row(size);
    for (float& value : row) value = static_cast<float>(random() % 50);  // many equal ones
    std::vector<Candidate> sorted;
    for (size_t i = 0; i < size; ++i) sorted.push_back({row[i], static_cast<TokenId>(i)});
    std::ranges::stable_sort(sorted, [](auto& a, auto& b) { return a.value > b.value; });
    for (const int32_t count : {0, 1, 2, 5, 30, 31, 32, 300, 5000}) {
      std::vector<Candidate> top;
      SelectTop(row, count, &top);
      ASSERT_EQ(top.size(), std::min(size, static_cast<size_t>(count)));
      for (size_t i = 0; i < top.size(); ++i) {
        ASSERT_EQ(top[i].token, sorted[i].token) << size << " values, count " << count;
        ASSERT_EQ(top[i].value, sorted[i].value);
      }
    }
  }
}

TEST(SelectMassTest, GivesTheFewestThatReachTheMass) {
  constexpr uint64_t kSeed = 5;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937_64 random(kSeed);
  for (const size_t size : kOddSizes) {
    std::vector<float> weights(size);
    for (float& weight : weights) {
      // Eighths of powers of two: sums are exact, many are equal, some are 0.
      weight =
          static_cast<float>(random() % 9) * std::ldexp(0.125f, -static_cast<int>(random() % 9));
    }
    weights[random() % size] = 1.0f;
    std::vector<Candidate> sorted;
    for (size_t i = 0; i < size; ++i) {
      if (weights[i] > 0) sorted.push_back({weights[i], static_cast<TokenId>(i)});
    }
    std::ranges::stable_sort(sorted, [](auto& a, auto& b) { return a.value > b.value; });
    const double total = SumRow(weights);
    for (const double share : {0.0, 0.1, 0.5, 0.9, 0.999, 1.0, 2.0}) {
      std::vector<Candidate> top;
      SelectMass(weights, total * share, &top);
      size_t expected = 0;
      for (double sum = 0; expected < sorted.size() && sum < total * share; ++expected) {
        sum += double{sorted[expected].value};
      }
      ASSERT_EQ(top.size(), expected) << size << " weights, share " << share;
      for (size_t i = 0; i < expected; ++i) ASSERT_EQ(top[i].token, sorted[i].token);
    }
  }
}

}  // namespace
}  // namespace baton
