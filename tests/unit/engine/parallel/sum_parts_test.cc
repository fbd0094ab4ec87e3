#include "engine/parallel/sum_parts.h"

#include <gtest/gtest.h>

#include <vector>

namespace baton {
namespace {

TEST(SumParts, AddsFromTheFirstPartToTheLast) {
  // 1 is lost beside 2^30, so any other order has another sum.
  for (const size_t count : {1u, 5u, 1024u, 1025u, 5000u}) {
    const std::vector<float> large(count, 1073741824.0f);
    const std::vector<float> one(count, 1.0f);
    const std::vector<float> minus(count, -1073741824.0f);
    std::vector<float> sum(count, 7.0f);
    const float* lost[] = {large.data(), one.data(), minus.data()};
    SumParts(lost, sum);
    EXPECT_EQ(sum, std::vector<float>(count, 0.0f));
    const float* kept[] = {large.data(), minus.data(), one.data()};
    SumParts(kept, sum);
    EXPECT_EQ(sum, one);
  }
}

TEST(SumParts, OfOnePartIsThatPart) {
  const std::vector<float> part = {1.0f, -0.0f, 3.0f};
  std::vector<float> sum(3);
  const float* parts[] = {part.data()};
  SumParts(parts, sum);
  EXPECT_EQ(sum, part);
}

}  // namespace
}  // namespace baton
