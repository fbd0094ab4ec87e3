#include "bench/load/core/lengths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/load/core/slo.h"
#include "bench/load/core/stats.h"

namespace baton::load {
namespace {

using ::testing::HasSubstr;

std::pair<Distribution, Distribution> Draw(const std::string& text, double scale = 1) {
  const auto spec = ParseLengths(text);
  EXPECT_TRUE(spec.ok()) << spec.status();
  Rng rng(11, 2);
  std::vector<double> prompts, outputs;
  for (int i = 0; i < 100'000; ++i) {
    const Lengths lengths = DrawLengths(*spec, scale, rng);
    prompts.push_back(lengths.prompt_tokens);
    outputs.push_back(lengths.output_tokens);
  }
  return {Describe(std::move(prompts)), Describe(std::move(outputs))};
}

TEST(Lengths, FixedIsFixed) {
  const auto [prompt, output] = Draw("fixed:512/64");
  EXPECT_EQ(prompt.min, 512);
  EXPECT_EQ(prompt.max, 512);
  EXPECT_EQ(output.min, 64);
  EXPECT_EQ(output.max, 64);
}

TEST(Lengths, UniformCoversBothEnds) {
  const auto [prompt, output] = Draw("uniform:100-200/1-4");
  EXPECT_EQ(prompt.min, 100);
  EXPECT_EQ(prompt.max, 200);
  EXPECT_NEAR(prompt.mean, 150, 0.5);
  EXPECT_EQ(output.min, 1);
  EXPECT_EQ(output.max, 4);
}

TEST(Lengths, LognormalHasItsMedianAndSpread) {
  const auto [prompt, output] = Draw("lognormal:500,0.8/60,0");
  EXPECT_NEAR(prompt.p50, 500, 10);
  EXPECT_NEAR(prompt.mean, 500 * std::exp(0.32), 15);
  EXPECT_NEAR(prompt.p90, 500 * std::exp(0.8 * 1.2816), 30);
  EXPECT_EQ(output.max, 60);
}

TEST(Lengths, ScaleMultipliesAndLeavesOneTokenAtLeast) {
  const auto [prompt, output] = Draw("fixed:1000/2", 0.1);
  EXPECT_EQ(prompt.max, 100);
  EXPECT_EQ(output.max, 1);
}

TEST(Lengths, BadTextSaysWhatIsWrong) {
  const auto why = [](const char* text) {
    return std::string(ParseLengths(text).status().message());
  };
  EXPECT_THAT(why("gauss:3/4"), HasSubstr("unknown distribution"));
  EXPECT_THAT(why("fixed:512"), HasSubstr("no \"/\""));
  EXPECT_THAT(why("fixed:x/64"), HasSubstr("\"x\" is not a number"));
  EXPECT_THAT(why("fixed:0/64"), HasSubstr("0 tokens"));
  EXPECT_THAT(why("fixed:nan/64"), HasSubstr("nan"));
  EXPECT_THAT(why("uniform:9-3/1-2"), HasSubstr("9-3 is not a range"));
  EXPECT_THAT(why("uniform:9/1-2"), HasSubstr("cannot read \"9\""));
  EXPECT_THAT(why("lognormal:500,9/64,1"), HasSubstr("sigma 9"));
  EXPECT_THAT(why("lognormal:500/64,1"), HasSubstr("cannot read \"500\""));
}

TEST(SloText, ParsesBoundsAndNoBound) {
  EXPECT_EQ(ParseSlo("500:50")->ttft_ms, 500);
  EXPECT_EQ(ParseSlo("500:50")->tpot_ms, 50);
  EXPECT_EQ(ParseSlo("500:-")->tpot_ms, kNoBound);
  for (const char* bad : {"500", "500:", "0:5", "-1:5", "a:b", "500:50:5", "inf:3", "nan:3"}) {
    EXPECT_FALSE(ParseSlo(bad).ok()) << bad;
  }
}

TEST(SloText, ClassesHaveSharesThatSumToOne) {
  std::vector<SloClass> classes = {*ParseSloClass("chat=3,500,50"), *ParseSloClass("code=1,-,30")};
  ASSERT_TRUE(NormalizeShares(&classes).ok());
  EXPECT_EQ(classes[0].name, "chat");
  EXPECT_DOUBLE_EQ(classes[0].share, 0.75);
  EXPECT_DOUBLE_EQ(classes[1].share, 0.25);
  EXPECT_EQ(classes[1].slo.ttft_ms, kNoBound);
  classes[1].name = "chat";
  EXPECT_FALSE(NormalizeShares(&classes).ok());
  for (const char* bad :
       {"chat", "=1,2,3", "chat=1,2", "chat=0,2,3", "a b=1,2,3", "a\r\nX: y=1,2,3"}) {
    EXPECT_FALSE(ParseSloClass(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace baton::load
