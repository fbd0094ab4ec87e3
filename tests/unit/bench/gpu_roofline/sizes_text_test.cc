#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/gpu_roofline/sizes.h"

namespace baton::roofline {
namespace {

TEST(SizesText, APeerReadsTheShapesOfAttentionAndHowLongToMeasure) {
  Sizes sizes;
  sizes.attention = {{.name = "decode 8 at 4,096, 32/4 heads of 128",
                      .sequences = 8,
                      .context = 4096,
                      .tokens = 1,
                      .heads = 32,
                      .kv_heads = 4,
                      .head_dim = 128}};
  sizes.warm_up_ms = 300;
  sizes.repeats = 15;
  sizes.sample_ms = 2.5;
  sizes.flushed_bytes = size_t{5} << 30;
  const Sizes read = *AttentionSizesFromJson(SizesJson(sizes));
  ASSERT_EQ(read.attention.size(), 1u);
  const AttentionShape& shape = read.attention[0];
  EXPECT_EQ(shape.name, sizes.attention[0].name);
  EXPECT_EQ(shape.sequences, 8);
  EXPECT_EQ(shape.context, 4096);
  EXPECT_EQ(shape.tokens, 1);
  EXPECT_EQ(shape.heads, 32);
  EXPECT_EQ(shape.kv_heads, 4);
  EXPECT_EQ(shape.head_dim, 128);
  EXPECT_EQ(read.warm_up_ms, 300);
  EXPECT_EQ(read.repeats, 15);
  EXPECT_EQ(read.sample_ms, 2.5);
  EXPECT_EQ(read.flushed_bytes, size_t{5} << 30);
}

TEST(SizesText, RefusesWhatAreNoSizes) {
  for (const char* text : {"", "{}", R"({"attention": 1})", R"({"attention": [{"name": "a"}]})",
                           R"({"attention": [], "repeats": "b"})"}) {
    EXPECT_EQ(AttentionSizesFromJson(text).status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
}

}  // namespace
}  // namespace baton::roofline
