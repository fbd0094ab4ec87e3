#include "bench/gpu_roofline/row_error.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace baton::roofline {
namespace {

std::vector<Bf16> Numbers(const std::vector<float>& values) {
  std::vector<Bf16> numbers;
  for (const float value : values) numbers.push_back(ToBf16(value));
  return numbers;
}

TEST(RowError, IsThatOfTheWorstRowHoweverSmallItsNumbers) {
  const std::vector<Bf16> expected = Numbers({4, 4, 0.5, 0, 3, 4});
  EXPECT_EQ(WorstRowError(expected, expected, 2), 0);
  EXPECT_EQ(WorstRowError(expected, Numbers({4, 4, 0.5, 0.125, 3, 4}), 2), 0.25);
  EXPECT_EQ(WorstRowError(expected, Numbers({4, 2, 0.5, 0, 3, 4}), 6), 2 / std::sqrt(57.25));
  EXPECT_EQ(WorstRowError(Numbers({0, 0}), Numbers({0, 0}), 2), 0);
}

TEST(RowError, IsInfiniteForWhatIsNoNumberWhereverItIs) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(WorstRowError(Numbers({1, 1, 1, 1}), Numbers({nan, 1, 1, 2}), 2), kInfinity);
  EXPECT_EQ(WorstRowError(Numbers({nan, 1, 1, 1}), Numbers({1, 1, 1, 1}), 2), kInfinity);
  EXPECT_EQ(WorstRowError(Numbers({0, 0}), Numbers({0, 1}), 2), kInfinity);
}

}  // namespace
}  // namespace baton::roofline
