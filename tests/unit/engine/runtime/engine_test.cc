#include "engine/runtime/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "engine/runtime/step_runner.h"
#include "tests/unit/engine/scheduler/history_model.h"

namespace baton {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int32_t kBlockSize = 4;
constexpr int32_t kMaxModelLen = 64;

EngineOptions Options() {
  EngineOptions options;
  options.num_blocks = 32;
  options.scheduler.max_batch_tokens = 10;
  options.scheduler.prefill_chunk_tokens = 8;
  return options;
}

struct Loaded {
  std::unique_ptr<Engine> engine;
  HistoryModel* model = nullptr;  // owned by `engine`
};

Loaded Load(const EngineOptions& options) {
  auto model = std::make_unique<HistoryModel>(kBlockSize, kMaxModelLen);
  HistoryModel* raw = model.get();
  auto engine = Engine::Create(std::move(model), options);
  EXPECT_TRUE(engine.ok()) << engine.status().ToString();
  return {engine.ok() ? *std::move(engine) : nullptr, raw};
}

absl::Status LoadError(const EngineOptions& options) {
  return Engine::Create(std::make_unique<HistoryModel>(kBlockSize, kMaxModelLen), options).status();
}

GenerationSpec Spec(int32_t length, int32_t max_tokens) {
  GenerationSpec spec;
  for (int32_t i = 0; i < length; ++i) spec.tokens.push_back((i * 31 + 5) % kHistoryVocab);
  spec.prompt_length = length;
  spec.sampling.seed = 4;
  spec.stopping.max_tokens = max_tokens;
  spec.stopping.ignore_eos = true;
  return spec;
}

// All events until nothing is left to do.
std::vector<StepResult> RunAll(Engine& engine) {
  std::vector<StepResult> results;
  while (engine.scheduler().HasWork()) {
    auto result = engine.Step(nullptr);
    EXPECT_TRUE(result.ok()) << result.status().ToString();
    if (!result.ok()) break;
    results.push_back(*std::move(result));
  }
  return results;
}

TEST(EngineTest, GivesTheTokensOfASingleSequenceRun) {
  const Loaded loaded = Load(Options());
  SchedulerOptions limits;
  limits.max_model_len = kMaxModelLen;
  const GenerationSpec spec = Spec(21, 12);
  ASSERT_TRUE(loaded.engine->scheduler().Add(spec, SequenceMode::kGenerate).ok());
  std::vector<TokenId> tokens, expected;
  for (const StepResult& result : RunAll(*loaded.engine)) {
    for (const SequenceEvent& event : result.events) {
      if (const auto* token = std::get_if<SequenceEvent::Token>(&event.what)) {
        tokens.push_back(token->output.token);
      }
    }
  }
  for (const SampledToken& token : RunAlone(spec, 0, limits).tokens) {
    expected.push_back(token.token);
  }
  EXPECT_EQ(tokens, expected);
  EXPECT_EQ(tokens.size(), 12u);
}

TEST(EngineTest, CountsWhatAStepDid) {
  const Loaded loaded = Load(Options());
  Scheduler& scheduler = loaded.engine->scheduler();
  ASSERT_TRUE(scheduler.Add(Spec(5, 3), SequenceMode::kGenerate).ok());
  StepResult result = *loaded.engine->Step(nullptr);
  EXPECT_EQ(result.shape.prefill_tokens, 5);
  EXPECT_EQ(result.shape.prefill_pairs, 1 + 2 + 3 + 4 + 5);
  EXPECT_EQ(result.shape.decode_rows, 0);
  ASSERT_TRUE(scheduler.Add(Spec(30, 3), SequenceMode::kGenerate).ok());
  result = *loaded.engine->Step(nullptr);
  EXPECT_EQ(result.shape.decode_rows, 1);
  EXPECT_EQ(result.shape.decode_context, 6);
  EXPECT_EQ(result.shape.prefill_tokens, 8) << "a chunk";
  RunAll(*loaded.engine);
  result = *loaded.engine->Step(nullptr);
  EXPECT_EQ(result.shape.prefill_tokens + result.shape.decode_rows, 0);
  EXPECT_TRUE(result.events.empty());
}

TEST(EngineTest, AnEmptyStepStillHandsOutEvents) {
  const Loaded loaded = Load(Options());
  Scheduler& scheduler = loaded.engine->scheduler();
  const auto reservation = scheduler.Reserve(Spec(5, 1));
  ASSERT_TRUE(scheduler.Seal(reservation->sequence, std::vector<TokenId>{9}).ok());
  const auto result = loaded.engine->Step(nullptr);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->events.size(), 2u);
}

TEST(EngineTest, TellsEachLayerWithThePlan) {
  const Loaded loaded = Load(Options());
  ASSERT_TRUE(loaded.engine->scheduler().Add(Spec(5, 1), SequenceMode::kPrefillOnly).ok());
  std::vector<int32_t> layers;
  ASSERT_TRUE(loaded.engine
                  ->Step([&](int32_t layer, const StepPlan& plan) {
                    layers.push_back(layer);
                    ASSERT_EQ(plan.rows.size(), 1u);
                    EXPECT_TRUE(plan.rows[0].ends_prompt);
                  })
                  .ok());
  EXPECT_THAT(layers, ElementsAre(0, 1));
}

TEST(EngineTest, ScoresEachPromptTokenOnceOverAllChunks) {
  const Loaded loaded = Load(Options());
  GenerationSpec spec = Spec(27, 2);
  spec.sampling.num_prompt_logprobs = 2;
  const auto id = loaded.engine->scheduler().Add(spec, SequenceMode::kGenerate);
  std::vector<float> logits(kHistoryVocab);
  Sampler sampler(kHistoryVocab);
  uint64_t history = 0;
  int32_t next = 1;
  for (const StepResult& result : RunAll(*loaded.engine)) {
    for (const StepResult::PromptLogprobs& scored : result.prompt_logprobs) {
      EXPECT_EQ(scored.sequence, *id);
      for (const TokenOutput& output : scored.tokens) {
        ASSERT_EQ(output.index, next++);
        const int32_t before = output.index - 1;
        history = ExtendHistory(history, spec.tokens[static_cast<size_t>(before)], before);
        HistoryLogits(history, logits);
        const auto expected =
            sampler.Score(logits, spec.tokens[static_cast<size_t>(output.index)], 2);
        EXPECT_EQ(output.logprob, expected->logprob);
        EXPECT_EQ(output.top_logprobs.size(), 2u);
      }
    }
  }
  EXPECT_EQ(next, 27);
}

TEST(EngineTest, ANanLogitIsAnInternalErrorAndNoToken) {
  const Loaded loaded = Load(Options());
  ASSERT_TRUE(loaded.engine->scheduler().Add(Spec(5, 3), SequenceMode::kGenerate).ok());
  loaded.model->next_row_is_nan = true;
  const auto result = loaded.engine->Step(nullptr);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(result.status().ToString(), HasSubstr("logit of token 3 is nan"));
  EXPECT_TRUE(loaded.engine->scheduler().TakeEvents().empty());
}

TEST(EngineTest, TakesLimitsFromTheModel) {
  const Loaded loaded = Load(Options());
  Scheduler& scheduler = loaded.engine->scheduler();
  EXPECT_EQ(scheduler.Census().free, 32);
  EXPECT_EQ(loaded.engine->kv_memory().num_blocks, 32);
  GenerationSpec spec = Spec(5, 3);
  spec.tokens[2] = kHistoryVocab;
  EXPECT_THAT(scheduler.Add(spec, SequenceMode::kGenerate).status().ToString(),
              HasSubstr("the vocabulary has 96"));
  EXPECT_THAT(scheduler.Add(Spec(64, 3), SequenceMode::kGenerate).status().ToString(),
              HasSubstr("maximum context length is 64"));
  EngineOptions shorter = Options();
  shorter.scheduler.max_model_len = 20;
  EXPECT_THAT(Load(shorter)
                  .engine->scheduler()
                  .Add(Spec(20, 3), SequenceMode::kGenerate)
                  .status()
                  .ToString(),
              HasSubstr("maximum context length is 20"));
}

TEST(EngineTest, EndsAtTheModelsEosToken) {
  const Loaded loaded = Load(Options());
  GenerationSpec spec = Spec(5, 10);
  spec.stopping.ignore_eos = false;
  spec.sampling.logit_bias = {{kHistoryEos, 100.0f}};
  ASSERT_TRUE(loaded.engine->scheduler().Add(spec, SequenceMode::kGenerate).ok());
  const auto result = loaded.engine->Step(nullptr);
  ASSERT_EQ(result->events.size(), 3u);
  EXPECT_EQ(std::get<SequenceEvent::Token>(result->events[0].what).output.token, kHistoryEos);
  EXPECT_EQ(std::get<SequenceEvent::BranchFinished>(result->events[1].what).finish.stop_token,
            kHistoryEos);
}

TEST(EngineTest, SizesThePoolByMemory) {
  EngineOptions options = Options();
  options.num_blocks = 0;
  const KvLayout layout = HistoryModel(kBlockSize, kMaxModelLen).kv_layout();
  const int64_t block_bytes = layout.BlockBytes() * layout.num_layers;
  options.kv_memory_bytes = 10 * block_bytes + block_bytes / 2;
  EXPECT_EQ(Load(options).engine->scheduler().Census().free, 10);
  options.kv_memory_bytes = block_bytes - 1;
  EXPECT_EQ(LoadError(options).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(LoadError(options).ToString(), HasSubstr("kv_memory_bytes"));
}

TEST(EngineTest, RefusesLimitsThatCouldRunNothing) {
  for (int32_t SchedulerOptions::*field :
       {&SchedulerOptions::max_batch_sequences, &SchedulerOptions::max_batch_tokens,
        &SchedulerOptions::prefill_chunk_tokens, &SchedulerOptions::max_waiting}) {
    EngineOptions options = Options();
    options.scheduler.*field = 0;
    EXPECT_EQ(LoadError(options).code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(CopyKvBlocksTest, CopiesEveryLayerInOrder) {
  const HistoryModel model(kBlockSize, kMaxModelLen);
  const TestKv kv(model.kv_layout(), 3);
  const auto block_bytes = static_cast<size_t>(model.kv_layout().BlockBytes());
  for (int32_t layer = 0; layer < 2; ++layer) {
    for (int32_t block = 0; block < 3; ++block) {
      std::memset(kv.region().Block(layer, BlockId(block)), 10 * layer + block, block_bytes);
    }
  }
  const KvBlockCopy copies[] = {{BlockId(0), BlockId(1)}, {BlockId(1), BlockId(2)}};
  CopyKvBlocks(copies, kv.region());
  for (int32_t layer = 0; layer < 2; ++layer) {
    for (int32_t block = 0; block < 3; ++block) {
      const std::byte* bytes = kv.region().Block(layer, BlockId(block));
      EXPECT_EQ(bytes[0], std::byte(10 * layer));
      EXPECT_EQ(bytes[block_bytes - 1], std::byte(10 * layer));
    }
  }
}

}  // namespace
}  // namespace baton
