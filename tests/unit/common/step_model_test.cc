#include "common/step_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace baton {
namespace {

using ::testing::HasSubstr;

constexpr StepModel kTruth{.prefill_base_ms = 4,
                           .prefill_token_ms = 0.08,
                           .prefill_pair_ms = 5e-5,
                           .decode_base_ms = 6,
                           .decode_row_ms = 0.5,
                           .decode_context_ms = 2e-4};

std::vector<StepShape> Grid() {
  std::vector<StepShape> shapes;
  for (const int64_t tokens : {16, 64, 128, 256, 512}) {
    for (const int64_t cached : {0, 512, 1024})
      shapes.push_back(StepShape::Prefill(tokens, cached));
  }
  for (const int64_t rows : {1, 4, 8, 16}) {
    for (const int64_t context : {32, 256, 1024}) {
      shapes.push_back({.decode_rows = rows, .decode_context = rows * context});
    }
  }
  return shapes;
}

// Every shape measured with a relative error of at most `noise`.
std::vector<StepSample> Measure(const std::vector<StepShape>& shapes, double noise, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> error(1 - noise, 1 + noise);
  std::vector<StepSample> samples;
  for (const StepShape& shape : shapes) {
    samples.push_back({shape, kTruth.PredictMs(shape) * error(random)});
  }
  return samples;
}

TEST(StepShape, APrefillCountsEachPairOfTokensOnce) {
  const StepShape shape = StepShape::Prefill(3, 10);
  EXPECT_EQ(shape.prefill_tokens, 3);
  EXPECT_EQ(shape.prefill_pairs, 11 + 12 + 13);
}

TEST(FitStepModel, FindsTheCoefficientsOfExactTimes) {
  const auto model = FitStepModel(Measure(Grid(), 0, 1));
  ASSERT_TRUE(model.ok()) << model.status().ToString();
  EXPECT_NEAR(model->prefill_base_ms, kTruth.prefill_base_ms, 1e-6);
  EXPECT_NEAR(model->prefill_token_ms, kTruth.prefill_token_ms, 1e-8);
  EXPECT_NEAR(model->prefill_pair_ms, kTruth.prefill_pair_ms, 1e-10);
  EXPECT_NEAR(model->decode_base_ms, kTruth.decode_base_ms, 1e-6);
  EXPECT_NEAR(model->decode_row_ms, kTruth.decode_row_ms, 1e-6);
  EXPECT_NEAR(model->decode_context_ms, kTruth.decode_context_ms, 1e-9);
  EXPECT_EQ(model->profiled_prefill_tokens, 512);
  EXPECT_EQ(model->profiled_decode_rows, 16);
  EXPECT_EQ(model->profiled_context_tokens, 16 * 1024);
}

TEST(FitStepModel, PredictsUnseenShapesFromNoisyTimes) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const auto model = FitStepModel(Measure(Grid(), 0.05, seed));
    ASSERT_TRUE(model.ok()) << model.status().ToString();
    for (const StepShape& shape :
         {StepShape::Prefill(40, 100), StepShape::Prefill(400, 0), StepShape::Prefill(300, 900),
          StepShape{.decode_rows = 2, .decode_context = 900},
          StepShape{.decode_rows = 12, .decode_context = 5000}}) {
      const double truth = kTruth.PredictMs(shape);
      EXPECT_NEAR(model->PredictMs(shape), truth, 0.06 * truth);
    }
  }
}

TEST(FitStepModel, NoCoefficientIsNegativeWhereTheTimesSuggestOne) {
  std::vector<StepSample> samples = Measure(Grid(), 0, 1);
  // The more pairs, the faster: only noise can say so.
  for (StepSample& sample : samples) {
    if (sample.shape.prefill_tokens > 0) {
      sample.ms = 2 + 0.1 * static_cast<double>(sample.shape.prefill_tokens) -
                  1e-6 * sample.shape.prefill_pairs;
    }
  }
  const auto model = FitStepModel(samples);
  ASSERT_TRUE(model.ok()) << model.status().ToString();
  EXPECT_EQ(model->prefill_pair_ms, 0);
  EXPECT_NEAR(model->prefill_token_ms, 0.1, 0.01);
  EXPECT_GE(model->prefill_base_ms, 0);
}

TEST(FitStepModel, RefusesGridsThatCannotTellTheCoefficientsApart) {
  const auto refusal = [](const std::vector<StepShape>& shapes) {
    return FitStepModel(Measure(shapes, 0, 1)).status().ToString();
  };
  const std::vector<StepShape> grid = Grid();
  std::vector<StepShape> only_prefill, only_decode, one_length, no_rows_apart;
  for (const StepShape& shape : grid) {
    if (shape.prefill_tokens > 0) only_prefill.push_back(shape);
    if (shape.decode_rows > 0) only_decode.push_back(shape);
    if (shape.decode_rows > 0 || shape.prefill_tokens == 64) one_length.push_back(shape);
    // All at the same context: rows and context grow together.
    if (shape.prefill_tokens > 0 || shape.decode_context == shape.decode_rows * 256) {
      no_rows_apart.push_back(shape);
    }
  }
  EXPECT_THAT(refusal({}), HasSubstr("0 prefill steps are too few"));
  EXPECT_THAT(refusal(only_prefill), HasSubstr("0 decode steps"));
  EXPECT_THAT(refusal(only_decode), HasSubstr("0 prefill steps"));
  EXPECT_THAT(refusal(one_length), HasSubstr("3 prefill steps"));
  EXPECT_THAT(refusal(no_rows_apart), HasSubstr("4 decode steps"));
  std::vector<StepSample> stopped_clock = Measure(grid, 0, 1);
  stopped_clock[3].ms = 0;
  EXPECT_THAT(FitStepModel(stopped_clock).status().ToString(), HasSubstr("must be above 0"));
}

TEST(StepModel, AMixedStepPaysTheLargerBaseOnce) {
  const StepShape prefill = StepShape::Prefill(100, 0);
  const StepShape decode{.decode_rows = 4, .decode_context = 400};
  StepShape mixed = prefill;
  mixed += decode;
  EXPECT_NEAR(kTruth.PredictMs(mixed),
              kTruth.PredictMs(prefill) + kTruth.PredictMs(decode) - kTruth.prefill_base_ms, 1e-9);
  EXPECT_EQ(kTruth.PredictMs({}), 0);
}

TEST(StepModel, SaysWhatLiesBeyondTheGrid) {
  const auto model = FitStepModel(Measure(Grid(), 0, 1));
  ASSERT_TRUE(model.ok());
  EXPECT_FALSE(model->Extrapolates(StepShape::Prefill(512, 0)));
  EXPECT_TRUE(model->Extrapolates(StepShape::Prefill(513, 0)));
  EXPECT_FALSE(model->Extrapolates({.decode_rows = 16, .decode_context = 16 * 1024}));
  EXPECT_TRUE(model->Extrapolates({.decode_rows = 17, .decode_context = 17}));
  EXPECT_TRUE(model->Extrapolates({.decode_rows = 1, .decode_context = 16 * 1024 + 1}));
}

TEST(StepModelTracker, FollowsAMachineThatBecameSlower) {
  StepModelTracker tracker(kTruth);
  const StepShape decode{.decode_rows = 4, .decode_context = 2000};
  const double alone = kTruth.PredictMs(decode);
  for (int i = 0; i < 200; ++i) tracker.Observe(decode, 1.7 * alone);
  EXPECT_NEAR(tracker.decode_factor(), 1.7, 0.01);
  EXPECT_EQ(tracker.prefill_factor(), 1) << "nothing was prefilled";
  EXPECT_NEAR(tracker.PredictMs(decode), 1.7 * alone, 0.02 * alone);
  EXPECT_LT(tracker.error_ratio(), 0.02);
  const StepShape prefill = StepShape::Prefill(64, 0);
  EXPECT_EQ(tracker.PredictMs(prefill), kTruth.PredictMs(prefill));
}

TEST(StepModelTracker, ReportsTheErrorOfWhatItPredicted) {
  StepModelTracker tracker(kTruth);
  const StepShape prefill = StepShape::Prefill(64, 0);
  // Alternately a third too fast and a third too slow: no factor helps.
  for (int i = 0; i < 400; ++i) {
    tracker.Observe(prefill, kTruth.PredictMs(prefill) * (i % 2 == 0 ? 0.75 : 1 / 0.75));
  }
  EXPECT_NEAR(tracker.prefill_factor(), 1, 0.05);
  EXPECT_NEAR(tracker.error_ratio(), 0.29, 0.05);
}

TEST(StepModelTracker, AddsUpTheTimeOfAllStepsAsMeasuredAndAsCalibrated) {
  StepModelTracker tracker(kTruth);
  StepShape mixed{.decode_rows = 4, .decode_context = 2000};
  mixed += StepShape::Prefill(64, 0);
  const double ms = kTruth.PredictMs(mixed);
  for (int i = 0; i < 10; ++i) tracker.Observe(mixed, 3 * ms);
  tracker.Observe(mixed, 1000 * ms);
  EXPECT_NEAR(tracker.step_time().measured_ms, 1030 * ms, 1e-6 * ms);
  EXPECT_NEAR(tracker.step_time().calibrated_ms, 11 * ms, 1e-6 * ms);
}

TEST(StepModelTracker, OneStepThatWasHeldUpHardlyCounts) {
  StepModelTracker tracker(kTruth);
  const StepShape decode{.decode_rows = 1, .decode_context = 100};
  const double ms = kTruth.PredictMs(decode);
  for (int i = 0; i < 100; ++i) tracker.Observe(decode, ms);
  tracker.Observe(decode, 1000 * ms);
  EXPECT_LT(tracker.decode_factor(), 1.15);
  EXPECT_GT(tracker.decode_factor(), 1.0);
}

TEST(StepModelTracker, StaysWithinBoundsWhateverItIsTold) {
  StepModelTracker slow(kTruth), fast(kTruth);
  const StepShape prefill = StepShape::Prefill(64, 0);
  for (int i = 0; i < 1000; ++i) {
    slow.Observe(prefill, 1e9);
    fast.Observe(prefill, 1e-9);
  }
  EXPECT_NEAR(slow.prefill_factor(), 10, 1e-6);
  EXPECT_NEAR(fast.prefill_factor(), 0.1, 1e-6);
}

TEST(StepModelTracker, LearnsWhatStraightLinesMiss) {
  StepModelTracker tracker(kTruth);
  // The first four rows of a batch cost no more than one, those after them twice what is modelled.
  const auto shape = [](int64_t rows) {
    return StepShape{.decode_rows = rows, .decode_context = 500 * rows};
  };
  const auto truth = [&](int64_t rows) {
    const double flat = kTruth.PredictMs(shape(1));
    if (rows <= 4) return flat;
    return flat + 2 * (kTruth.PredictMs(shape(rows)) - kTruth.PredictMs(shape(4)));
  };
  for (int i = 0; i < 3000; ++i) {
    const int64_t rows = 1 + i * 7 % 16;
    tracker.Observe(shape(rows), truth(rows));
  }
  for (const int64_t rows : {1, 2, 4, 8, 12, 16}) {
    EXPECT_NEAR(tracker.PredictMs(shape(rows)) / truth(rows), 1, 0.15) << rows << " rows";
  }
}

TEST(StepModelTracker, WhatOneSizeShowsHoldsForMostPartForTheOthers) {
  StepModelTracker tracker(kTruth);
  const StepShape one{.decode_rows = 1, .decode_context = 100};
  for (int i = 0; i < 200; ++i) tracker.Observe(one, 0.5 * kTruth.PredictMs(one));
  EXPECT_NEAR(tracker.decode_factors().At(1), 0.5, 0.01);
  EXPECT_LT(tracker.decode_factors().At(16), 0.7);
}

TEST(SizeFactors, AreInterpolatedAndGoOnBeyondTheLast) {
  SizeFactors factors;
  factors.at[1] = 3;
  EXPECT_EQ(factors.At(1), 1);
  EXPECT_NEAR(factors.At(std::sqrt(2.0)), 2, 1e-6);
  EXPECT_EQ(factors.At(0), 1);
  factors.at.back() = 5;
  EXPECT_EQ(factors.At(1e9), 5);
}

TEST(StepModelTracker, MixedStepsAndNonsenseCorrectNothing) {
  StepModelTracker tracker(kTruth);
  StepShape mixed = StepShape::Prefill(64, 0);
  mixed += {.decode_rows = 2, .decode_context = 100};
  for (int i = 0; i < 50; ++i) tracker.Observe(mixed, 3 * kTruth.PredictMs(mixed));
  tracker.Observe({.decode_rows = 1, .decode_context = 1}, 0);
  tracker.Observe({}, 5);
  EXPECT_EQ(tracker.prefill_factor(), 1);
  EXPECT_EQ(tracker.decode_factor(), 1);
  EXPECT_NEAR(tracker.error_ratio(), 2.0 / 3, 0.01) << "but the error of mixed steps is told";
}

}  // namespace
}  // namespace baton
