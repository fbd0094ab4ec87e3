#include "engine/runtime/step_runner.h"

#include <gtest/gtest.h>

#include <memory>

#include "engine/kv/kv_cache.h"
#include "tests/unit/engine/model/count_allocations.h"
#include "tests/unit/engine/model/tiny_models.h"

namespace baton {
namespace {

constexpr int32_t kBlockSize = 16;
constexpr int32_t kNumBlocks = 64;

std::unique_ptr<Model> LoadModel(int32_t num_threads) {
  ModelOptions options;
  options.path = TinyModelPath("qwen2_window");
  options.num_threads = num_threads;
  options.block_size = kBlockSize;
  auto model = Model::Load(options, nullptr);
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

GenerationSpec Spec(const SamplingParams& sampling) {
  GenerationSpec spec;
  for (int32_t i = 0; i < 17; ++i) spec.tokens.push_back(i * 7 + 1);
  spec.prompt_length = 17;
  spec.sampling = sampling;
  spec.stopping.max_tokens = 100;
  spec.stopping.ignore_eos = true;
  return spec;
}

// Every way to draw a token.
std::vector<SamplingParams> WaysToDraw() {
  return {{.temperature = 0},
          {.temperature = 0.8f},
          {.temperature = 0.8f, .top_k = 40},
          {.temperature = 0.8f, .top_p = 0.95f},
          {.temperature = 0.8f, .min_p = 0.05f},
          {.temperature = 0, .repetition_penalty = 1.1f},
          {.temperature = 0, .num_logprobs = 0}};
}

// What is handed over each time is the vector of events; what else grows does so with a new block
// and with the tokens of a sequence, which double.
TEST(StepRunnerTest, ADecodeStepInsideABlockAllocatesNothingButItsEvents) {
  for (const int32_t threads : {1, 2}) {
    const std::unique_ptr<Model> model = LoadModel(threads);
    const auto kv = *KvCache::Create(model->kv_layout(), kNumBlocks);
    const auto scheduler = Scheduler::Create({.block_size = kBlockSize,
                                              .num_blocks = kNumBlocks,
                                              .max_model_len = 512,
                                              .vocab_size = model->info().vocab_size});
    for (const SamplingParams& sampling : WaysToDraw()) {
      ASSERT_TRUE(scheduler->Add(Spec(sampling), SequenceMode::kGenerate).ok());
    }
    HostStepSampler sampler(model->info().vocab_size);
    StepRunner runner(model.get(), kv->region(), scheduler.get(), &sampler);
    // The first computes its prompt, the others wait a step for its block. After 34 steps all are
    // in their fourth block, and their tokens, which have grown twice, in a space of 68.
    for (int i = 0; i < 34; ++i) ASSERT_TRUE(runner.Run(nullptr).ok());
    for (int i = 0; i < 12; ++i) {
      const int64_t before = AllocationCount();
      const auto result = runner.Run(nullptr);
      EXPECT_EQ(AllocationCount() - before, 1) << "step " << i << ", " << threads << " threads";
      ASSERT_TRUE(result.ok());
      EXPECT_EQ(result->events.size(), WaysToDraw().size());
      EXPECT_EQ(result->shape.decode_rows, static_cast<int32_t>(WaysToDraw().size()));
    }
  }
}

}  // namespace
}  // namespace baton
