#include "engine/runtime/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "engine/runtime/engine.h"
#include "tests/unit/engine/scheduler/history_model.h"

namespace baton {
namespace {

using ::testing::HasSubstr;

constexpr StepModel kTruth{.prefill_base_ms = 4,
                           .prefill_token_ms = 0.5,
                           .prefill_pair_ms = 1e-4,
                           .decode_base_ms = 6,
                           .decode_row_ms = 1,
                           .decode_context_ms = 1e-3};
constexpr CalibrationLimits kLimits{
    .max_batch_tokens = 512, .max_batch_sequences = 64, .max_model_len = 2048, .num_blocks = 1024};

// Steps on a machine that is exactly as kTruth says.
struct Machine {
  absl::Status Run(const CalibrationPoint& point) {
    ran.push_back(point);
    clock.Advance(slowdown * absl::Milliseconds(kTruth.PredictMs(point.Shape())));
    return absl::OkStatus();
  }
  absl::StatusOr<StepModel> Calibrate(absl::Duration budget) {
    return baton::Calibrate(CalibrationGrid(kLimits), budget, clock,
                            [this](const CalibrationPoint& point) { return Run(point); });
  }
  ManualClock clock;
  double slowdown = 1;
  std::vector<CalibrationPoint> ran;
};

TEST(CalibrationGrid, StaysWithinTheLimits) {
  for (const CalibrationLimits& limits :
       {kLimits, CalibrationLimits{10, 4, 64, 32, 4}, CalibrationLimits{48, 64, 256, 96},
        CalibrationLimits{8192, 256, 131072, 6000}, CalibrationLimits{512, 1, 4096, 256}}) {
    const auto grid = CalibrationGrid(limits);
    ASSERT_GE(grid.size(), 6u) << limits.max_batch_tokens;
    for (const CalibrationPoint& point : grid) {
      EXPECT_LE(point.Shape().prefill_tokens, limits.max_batch_tokens);
      EXPECT_LE(point.rows, std::max(limits.max_batch_sequences, 2));
      EXPECT_LT(point.context + point.tokens, limits.max_model_len);
      EXPECT_LE(point.rows * BlocksForTokens(point.context + point.tokens, limits.block_size),
                limits.num_blocks);
    }
  }
  EXPECT_TRUE(CalibrationGrid({512, 8, 2048, 1}).empty());
  EXPECT_TRUE(CalibrationGrid({512, 8, 2, 256}).empty());
}

TEST(CalibrationGrid, ReachesTheLargestPromptAndBatch) {
  int64_t tokens = 0, rows = 0;
  for (const CalibrationPoint& point : CalibrationGrid(kLimits)) {
    tokens = std::max(tokens, point.Shape().prefill_tokens);
    rows = std::max(rows, point.Shape().decode_rows);
  }
  EXPECT_EQ(tokens, 512);
  EXPECT_EQ(rows, 64);
}

TEST(Calibrate, FindsTheModelOfTheMachineAndRepeatsWhatIsCheap) {
  Machine machine;
  const auto model = machine.Calibrate(absl::Seconds(20));
  ASSERT_TRUE(model.ok()) << model.status().ToString();
  EXPECT_NEAR(model->prefill_token_ms, kTruth.prefill_token_ms, 1e-4);
  EXPECT_NEAR(model->decode_row_ms, kTruth.decode_row_ms, 1e-4);
  EXPECT_EQ(model->profiled_prefill_tokens, 512);
  EXPECT_EQ(std::ranges::count(machine.ran, machine.ran[0]), 1 + 3);
}

TEST(Calibrate, StopsRefiningWhenTheBudgetIsUsed) {
  Machine machine;
  const absl::Time begin = machine.clock.Now();
  ASSERT_TRUE(machine.Calibrate(absl::Milliseconds(400)).ok());
  EXPECT_LE(machine.clock.Now() - begin, absl::Milliseconds(420));
  const auto grid = CalibrationGrid(kLimits);
  const auto left_out = std::ranges::count_if(grid, [&](const CalibrationPoint& point) {
    return std::ranges::count(machine.ran, point) == 0;
  });
  EXPECT_GT(left_out, 0);
}

TEST(Calibrate, MeasuresWhatAModelNeedsHoweverSlowTheMachine) {
  Machine machine;
  machine.slowdown = 1000;
  const auto model = machine.Calibrate(absl::Seconds(1));
  ASSERT_TRUE(model.ok()) << model.status().ToString();
  EXPECT_EQ(machine.ran.size(), 1 + 6u);
  EXPECT_NEAR(model->PredictMs(StepShape::Prefill(512, 0)),
              1000 * kTruth.PredictMs(StepShape::Prefill(512, 0)), 1000);
  EXPECT_TRUE(model->Extrapolates(StepShape::Prefill(512, 0)));
}

TEST(Calibrate, GivesTheErrorOfAStepAndRefusesAnEmptyGrid) {
  Machine machine;
  const auto broken = Calibrate(
      CalibrationGrid(kLimits), absl::Seconds(1), machine.clock,
      [](const CalibrationPoint&) { return absl::InternalError("the model is on fire"); });
  EXPECT_THAT(broken.status().ToString(), HasSubstr("on fire"));
  EXPECT_EQ(Calibrate({}, absl::Seconds(1), machine.clock, nullptr).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(EngineCalibration, LeavesNothingBehind) {
  EngineOptions options;
  options.num_blocks = 32;
  options.scheduler.max_batch_tokens = 20;
  auto model = std::make_unique<HistoryModel>(/*block_size=*/4, /*max_model_len=*/64);
  HistoryModel* raw = model.get();
  const auto engine = Engine::Create(std::move(model), options);
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  const MonotonicClock clock;
  const auto step_model = (*engine)->Calibrate(absl::Milliseconds(50), clock);
  ASSERT_TRUE(step_model.ok()) << step_model.status().ToString();
  EXPECT_TRUE(step_model->known());
  EXPECT_GT(raw->forward_tokens, 0);
  const Scheduler& scheduler = (*engine)->scheduler();
  EXPECT_EQ(scheduler.Census().free, 32);
  EXPECT_FALSE(scheduler.HasWork());
  EXPECT_EQ(scheduler.prefix_query_tokens_total(), 0u);
  // And what it wrote is never read as KV.
  GenerationSpec spec;
  for (int32_t i = 0; i < 30; ++i) spec.tokens.push_back(i);
  spec.prompt_length = 30;
  spec.stopping = {.max_tokens = 8, .ignore_eos = true};
  SchedulerOptions limits;
  limits.max_model_len = 64;
  std::vector<TokenId> tokens, expected;
  ASSERT_TRUE((*engine)->scheduler().Add(spec, SequenceMode::kGenerate).ok());
  while ((*engine)->scheduler().HasWork()) {
    const auto result = (*engine)->Step(nullptr);
    ASSERT_TRUE(result.ok()) << result.status().ToString();
    for (const SequenceEvent& event : result->events) {
      const auto* token = std::get_if<SequenceEvent::Token>(&event.what);
      if (token != nullptr) tokens.push_back(token->output.token);
    }
  }
  for (const SampledToken& token : RunAlone(spec, 0, limits).tokens) {
    expected.push_back(token.token);
  }
  EXPECT_EQ(tokens, expected);
}

}  // namespace
}  // namespace baton
