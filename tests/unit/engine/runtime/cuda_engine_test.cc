#include "engine/runtime/cuda/cuda_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/model/cuda/cuda_kv_cache.h"
#include "engine/model/cuda/cuda_model.h"
#include "tests/unit/engine/model/cuda_model_harness.h"
#include "tests/unit/engine/runtime/engine_answers.h"

namespace baton {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kBlockSize = 8;

class CudaEngineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HasCudaDevice()) GTEST_SKIP() << "NOT_FOUND: no CUDA device";
    options_.model = {.path = DummyPath(kCudaTinyModels[0].name, kCudaTinyModels[0].config),
                      .block_size = kBlockSize};
    options_.num_blocks = 64;
    options_.scheduler.max_batch_tokens = 24;
    options_.scheduler.prefill_chunk_tokens = 16;
    options_.scheduler.max_batch_sequences = 4;
    options_.scheduler.max_model_len = 96;
  }

  // The same model, but its logits come to the host and are drawn from there.
  std::unique_ptr<Engine> DrawingOnTheHost() {
    auto model =
        LoadCudaModel(options_.model, {.max_batch_tokens = 24, .max_sequences = 24}, nullptr);
    BATON_CHECK(model.ok()) << model.status();
    const auto scheduler = SchedulerFor(**model, 1, options_);
    BATON_CHECK(scheduler.ok()) << scheduler.status();
    EngineParts parts;
    parts.pools.push_back(MakeCudaKvCache(**model, options_.num_blocks));
    parts.sampler = std::make_unique<HostStepSampler>((*model)->info().vocab_size);
    parts.model = *std::move(model);
    return Engine::Assemble(std::move(parts), *scheduler);
  }
  std::unique_ptr<Engine> DrawingOnTheDevice() {
    auto engine = LoadCudaEngine(options_, nullptr);
    BATON_CHECK(engine.ok()) << engine.status();
    return *std::move(engine);
  }

  // More work than fits into a step, of all kinds that draw.
  static std::vector<GenerationSpec> Mixed() {
    std::vector<GenerationSpec> specs = {RandomSpec(5, 6, 1), RandomSpec(40, 5, 2),
                                         RandomSpec(17, 4, 3), RandomSpec(9, 5, 4),
                                         RandomSpec(30, 3, 5)};
    specs[0].sampling.temperature = 0;
    specs[1].sampling.num_prompt_logprobs = 1;  // more rows of logits than draws at once
    specs[2].num_samples = 3;
    specs[3].sampling.repetition_penalty = 1.3f;
    specs[3].sampling.top_p = 0.8f;
    return specs;
  }

  EngineOptions options_;
};

TEST_F(CudaEngineTest, DrawsWhatTheHostWouldDraw) {
  const std::vector<GenerationSpec> specs = Mixed();
  const std::vector<Answer> on_device = RunAll(*DrawingOnTheDevice(), specs);
  const std::vector<Answer> on_host = RunAll(*DrawingOnTheHost(), specs);
  for (size_t i = 0; i < specs.size(); ++i) {
    EXPECT_EQ(on_device[i].samples, on_host[i].samples) << "sequence " << i;
    ASSERT_EQ(on_device[i].logprobs.size(), on_host[i].logprobs.size());
    for (size_t at = 0; at < on_host[i].logprobs.size(); ++at) {
      EXPECT_FLOAT_EQ(on_device[i].logprobs[at], on_host[i].logprobs[at]);
    }
    EXPECT_EQ(on_device[i].prompt_logprobs.size(), on_host[i].prompt_logprobs.size());
  }
  EXPECT_EQ(on_device[1].prompt_logprobs.size(), 39u);
  EXPECT_EQ(on_device[2].samples[1].size(), 4u);
}

// Before a step with prompts is enqueued; of others, once all of it is and nothing has waited.
TEST_F(CudaEngineTest, CallsBackBesideAStep) {
  const std::unique_ptr<Engine> engine = DrawingOnTheDevice();
  EXPECT_TRUE(engine->on_device());
  ASSERT_TRUE(engine->scheduler().Add(RandomSpec(20, 4, 1), SequenceMode::kGenerate).ok());
  std::vector<std::string> steps;
  while (engine->scheduler().HasWork()) {
    std::string& order = steps.emplace_back();
    const auto result =
        engine->Step([&](int32_t layer, const StepPlan&) { order += layer == 0 ? "layers " : ""; },
                     [&] { order += "meanwhile "; }, /*may_run_ahead=*/false);
    ASSERT_TRUE(result.ok()) << result.status();
    order += result->shape.prefill_tokens > 0 ? "prompt" : "decode";
  }
  EXPECT_THAT(steps, ::testing::ElementsAre("meanwhile layers prompt", "meanwhile layers prompt",
                                            "meanwhile layers decode", "meanwhile layers decode",
                                            "meanwhile layers decode"));
  EXPECT_FALSE(DrawingOnTheHost()->on_device());
}

// With log-probabilities, a sequence that a token ends, whose row the next step has all the same,
// and one with penalties, which no step may go before.
TEST_F(CudaEngineTest, StepsThatStartAheadChangeNoBit) {
  options_.batch_invariant = true;  // else a row more may change bits
  std::vector<GenerationSpec> specs = {RandomSpec(5, 30, 1), RandomSpec(20, 25, 2),
                                       RandomSpec(17, 14, 3)};
  specs[0].sampling.temperature = 0;
  specs[2].sampling.repetition_penalty = 1.3f;
  const std::unique_ptr<Engine> engine = DrawingOnTheDevice();
  const std::vector<TokenId> until_full = RunAll(*engine, specs)[1].samples[0];
  size_t stop = 16;  // the first that has not been drawn before
  while (std::ranges::count(std::span(until_full).first(stop), until_full[stop]) > 0) ++stop;
  ASSERT_LT(stop, until_full.size() - 1);
  specs[1].stopping.stop_token_ids = {until_full[stop]};
  const std::vector<Answer> in_turn = RunAll(*engine, specs);
  EXPECT_EQ(in_turn[1].samples[0].size(), stop + 1);
  int ahead = 0;
  EXPECT_EQ(RunAll(*engine, specs, &ahead), in_turn);
  EXPECT_GT(ahead, 10);
  EXPECT_LT(ahead, 20) << "the penalties end with the 14th token of 30";
  engine->scheduler().CheckInvariants();

  options_.async_scheduling = false;
  ahead = 0;
  EXPECT_EQ(RunAll(*DrawingOnTheDevice(), specs, &ahead), in_turn);
  EXPECT_EQ(ahead, 0);
}

TEST_F(CudaEngineTest, AnEngineMayGoWhileAStepRunsAhead) {
  const std::unique_ptr<Engine> engine = DrawingOnTheDevice();
  ASSERT_TRUE(engine->scheduler().Add(RandomSpec(5, 30, 1), SequenceMode::kGenerate).ok());
  while (!engine->scheduler().InStep()) {
    ASSERT_TRUE(engine->Step(nullptr, nullptr, /*may_run_ahead=*/true).ok());
  }
}

TEST_F(CudaEngineTest, PreemptionChangesNoToken) {
  const std::vector<GenerationSpec> specs = {RandomSpec(30, 20, 1), RandomSpec(28, 20, 2),
                                             RandomSpec(26, 20, 3)};
  const std::vector<Answer> with_room = RunAll(*DrawingOnTheDevice(), specs);
  options_.num_blocks = 14;  // of the 18 that they need together
  const std::vector<Answer> without = RunAll(*DrawingOnTheDevice(), specs);
  for (size_t i = 0; i < specs.size(); ++i) EXPECT_EQ(with_room[i].samples, without[i].samples);
}

TEST_F(CudaEngineTest, CalibratesItsSteps) {
  const MonotonicClock clock;
  const auto engine = DrawingOnTheDevice();
  const auto model = engine->Calibrate(absl::Milliseconds(1), clock);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->known());
}

TEST_F(CudaEngineTest, KvOfADeviceIsReachedThroughStaging) {
  const auto engine = DrawingOnTheDevice();
  ASSERT_NE(engine->kv_memory().staging, nullptr);
  EXPECT_TRUE(engine->kv_memory().staging->Create(1 << 20).ok());
}

TEST_F(CudaEngineTest, KvTakesWhatTheShareLeaves) {
  options_.num_blocks = 0;
  options_.kv_memory_bytes = 0;
  options_.device_memory_share = 0.01;
  const int32_t few = DrawingOnTheDevice()->kv_memory().num_blocks;
  options_.device_memory_share = 0.02;
  const int32_t more = DrawingOnTheDevice()->kv_memory().num_blocks;
  EXPECT_GT(few, 0);
  EXPECT_GT(more, 3 * few / 2);
  options_.device_memory_share = 1e-9;
  const auto none = LoadCudaEngine(options_, nullptr);
  EXPECT_EQ(none.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(none.status().message()), HasSubstr("larger share"));
}

TEST_F(CudaEngineTest, WholePromptsNeedABound) {
  options_.scheduler.chunking = Chunking::kOff;
  options_.scheduler.max_model_len = 0;
  EXPECT_THAT(std::string(LoadCudaEngine(options_, nullptr).status().message()),
              HasSubstr("max_model_len"));
  options_.scheduler.max_model_len = 60;
  const auto engine = DrawingOnTheDevice();
  EXPECT_EQ(RunAll(*engine, {RandomSpec(55, 2, 1)})[0].samples[0].size(), 2u);
}

}  // namespace
}  // namespace baton
