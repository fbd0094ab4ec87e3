#include "engine/sampling/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace baton {
namespace {

using ::testing::ElementsAre;

// Known answers of the authors' Random123 library, file kat_vectors.
TEST(PhiloxTest, GivesTheKnownAnswers) {
  EXPECT_THAT(Philox4x32({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  constexpr uint32_t kOnes = 0xffffffffu;
  EXPECT_THAT(Philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
              ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
  EXPECT_THAT(
      Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
      ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(UniformAtTest, EachPartOfTheKeyMatters) {
  std::set<double> values;
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32, ~uint64_t{0}}) {
    for (int32_t sample = 0; sample < 8; ++sample) {
      for (int32_t index = 0; index < 64; ++index) values.insert(UniformAt(seed, sample, index));
    }
  }
  EXPECT_EQ(values.size(), 4u * 8 * 64);
  EXPECT_GE(*values.begin(), 0.0);
  EXPECT_LT(*values.rbegin(), 1.0);
}

TEST(UniformAtTest, IsUniform) {
  constexpr int kBins = 64;
  constexpr int kDraws = 64000;
  int counts[kBins] = {};
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<int>(UniformAt(5, 0, i) * kBins)];
  double chi_square = 0;
  for (const int count : counts) {
    chi_square += (count - 1000.0) * (count - 1000.0) / 1000.0;
  }
  EXPECT_LT(chi_square, 103.4);  // 63 degrees of freedom, p = 0.001
  EXPECT_GT(chi_square, 34.0);   // not too even either
}

}  // namespace
}  // namespace baton
