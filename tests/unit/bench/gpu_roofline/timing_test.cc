// On the emulation.
#include "bench/gpu_roofline/timing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/check.h"

namespace baton::roofline {
namespace {

template <typename T>
std::vector<T> OnHost(const CudaContext& context, const DeviceArray<T>& array) {
  std::vector<T> values(array.size());
  Download(context, array, values);
  BATON_CHECK_OK(context.Synchronize());
  return values;
}

TEST(Timing, RandomNumbersAreTheSameInBothTypesAndNotZeros) {
  const auto context = *CudaContext::Create(0);
  for (const int64_t rows : {1, 5}) {
    const auto bf16 = OnHost(*context, *RandomBf16(*context, 3, rows, 64));
    const auto f32 = OnHost(*context, *RandomF32(*context, 3, rows, 64));
    ASSERT_EQ(f32.size(), bf16.size());
    for (size_t i = 0; i < f32.size(); ++i) EXPECT_EQ(f32[i], ToFloat(bf16[i])) << i;
    EXPECT_THAT(std::span(f32).last(64), testing::Contains(testing::Gt(0.5f)));
    EXPECT_THAT(std::span(f32).last(64), testing::Contains(testing::Lt(-0.5f)));
  }
}

}  // namespace
}  // namespace baton::roofline
