// What is counted, against sums done by hand and the model's own figures.
#include "bench/gpu_roofline/work.h"

#include <gtest/gtest.h>

namespace baton::roofline {
namespace {

constexpr DecoderSizes kLlama8b = {.hidden = 4096,
                                   .intermediate = 14336,
                                   .layers = 32,
                                   .vocab = 128256,
                                   .heads = 32,
                                   .kv_heads = 8,
                                   .head_dim = 128};
constexpr DecoderSizes kTiny = {.hidden = 2,
                                .intermediate = 5,
                                .layers = 1,
                                .vocab = 7,
                                .heads = 2,
                                .kv_heads = 1,
                                .head_dim = 3};

TEST(Floor, IsTheSlowestOfTheThree) {
  const Ceilings ceilings = {.bytes_per_s = 10, .flop_per_s = 100, .bus_bytes_per_s = 1};
  Floor floor = FloorOf({.bytes = 20, .flop = 100, .bus_bytes = 1}, ceilings);
  EXPECT_EQ(floor.ms, 2000);
  EXPECT_EQ(floor.bound, Bound::kBytes);
  floor = FloorOf({.bytes = 20, .flop = 300, .bus_bytes = 1}, ceilings);
  EXPECT_EQ(floor.ms, 3000);
  EXPECT_EQ(floor.bound, Bound::kFlop);
  floor = FloorOf({.bytes = 20, .flop = 300, .bus_bytes = 4}, ceilings);
  EXPECT_EQ(floor.ms, 4000);
  EXPECT_EQ(floor.bound, Bound::kBus);
}

TEST(Floor, IsNoneWithoutWorkOrCeilings) {
  EXPECT_EQ(FloorOf({}, kNominal).bound, Bound::kNone);
  EXPECT_EQ(FloorOf({.bytes = 1, .flop = 1}, {}).bound, Bound::kNone);
  EXPECT_EQ(FloorOf({.bus_bytes = 1}, kNominal).ms, 0) << "the bus has no nominal rate";
}

TEST(Work, OfAProductCountsFactorsOnceAndAResultThatIsAddedToTwice) {
  ProductWork product{.m = 3, .n = 5, .k = 7};
  EXPECT_EQ(Count(product).flop, 2 * 3 * 5 * 7);
  EXPECT_EQ(Count(product).bytes, 2 * (3 * 7 + 5 * 7 + 3 * 5));
  product.output_bytes = 4;
  product.adds = true;
  EXPECT_EQ(Count(product).bytes, 2 * (3 * 7 + 5 * 7) + 2 * 4 * 3 * 5);
}

TEST(Work, OfAttentionCountsThePairsThatAreSeen) {
  const AttentionWork attention{
      .sequences = 2, .context = 4, .tokens = 3, .heads = 6, .kv_heads = 2, .head_dim = 10};
  // The rows see 5, 6 and 7 keys.
  EXPECT_EQ(CountPairs(attention), 18);
  EXPECT_EQ(Count(attention).flop, 2 * 18 * 6 * (4 * 10));
  // Queries and output; keys and values.
  EXPECT_EQ(Count(attention).bytes, 2 * 2 * (2 * 3 * 6 * 10 + 2 * 7 * 2 * 10));
  EXPECT_EQ(CountPairs({.context = 8, .tokens = 1}), 9);
}

TEST(Work, OfRowOpsCountsWhatIsReadAndWritten) {
  EXPECT_EQ(CountEmbedding(3, 8).bytes, 3 * 8 * (2 + 4));
  EXPECT_EQ(CountRmsNorm(3, 8).bytes, 3 * 8 * (4 + 2) + 8 * 4);
  EXPECT_EQ(CountRmsNormToE4m3(3, 8).bytes, 3 * 8 * (4 + 1) + 8 * 4 + 3 * 4);
  EXPECT_EQ(CountRopeWrite(3, 4, 2, 8).bytes, 3 * (4 + 2 + 2) * 8 * (2 + 2));
  EXPECT_EQ(CountSiluMul(3, 8).bytes, 3 * 8 * (2 + 2 + 2));
  EXPECT_EQ(CountSiluMulToE4m3(3, 8).bytes, 3 * 8 * (2 + 2 + 1) + 3 * 4);
  EXPECT_EQ(CountCopy(100).bytes, 200);
  EXPECT_EQ(CountSampling(3, 50).bytes, 3 * 50 * 4);
}

TEST(Work, OfAStepOfATinyModelByHand) {
  // q 2 x 6, k and v 2 x 3 each, output 6 x 2; gate, up, down 2 x 5 each.
  constexpr double kMatrices = 12 + 6 + 6 + 12 + 30;
  EXPECT_EQ(kTiny.LayerNumbers(), kMatrices);
  EXPECT_EQ(kTiny.KvBytesPerToken(), 2 * 2 * 3);
  const Work work = Count(kTiny, StepWork{.sequences = 3, .context = 4, .tokens = 1});
  EXPECT_EQ(work.bytes, 2 * kMatrices + 2 * 14  // layers, output table
                            + 2 * 3 * 2         // rows of the embedding
                            + 4 * 3 * 2         // three norms
                            + 3 * 5 * 12        // KV
                            + 3 * 7 * 4);       // logits
  EXPECT_EQ(work.flop, 2 * 3 * kMatrices + 2 * 3 * 14 + 3 * 5 * 2 * 4 * 3);
}

// The floors that the product was planned with: 5.1, 10.7, 37 and 165 ms.
TEST(Work, OfLlama8bGivesTheKnownFloors) {
  const auto floor_ms = [](double sequences, double context, double tokens) {
    return FloorOf(Count(kLlama8b, StepWork{sequences, context, tokens}), kNominal);
  };
  EXPECT_NEAR(kLlama8b.LayerNumbers() + 2.0 * kLlama8b.vocab * kLlama8b.hidden, 8.03e9, 0.01e9);
  EXPECT_EQ(kLlama8b.KvBytesPerToken(), 131072);
  EXPECT_NEAR(floor_ms(1, 1024, 1).ms, 5.1, 0.06);
  EXPECT_NEAR(floor_ms(64, 2048, 1).ms, 10.7, 0.06);
  EXPECT_EQ(floor_ms(64, 2048, 1).bound, Bound::kBytes);
  EXPECT_NEAR(floor_ms(1, 0, 2048).ms, 37, 0.5);
  EXPECT_NEAR(floor_ms(1, 0, 8192).ms, 165, 1);
  EXPECT_EQ(floor_ms(1, 0, 8192).bound, Bound::kFlop);
}

}  // namespace
}  // namespace baton::roofline
