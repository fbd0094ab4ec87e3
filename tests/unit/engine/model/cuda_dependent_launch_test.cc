// Steps whose kernels start before those in front of them have ended. Under the race checker, too:
// what a kernel touches before its wait is then a race with those in front of it.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/linear.h"
#include "tests/unit/engine/cuda/cuda_harness.h"
#include "tests/unit/engine/model/cuda_model_harness.h"

namespace baton {
namespace {

using Answers = std::vector<std::vector<float>>;  // logits of each step

constexpr size_t kSeveralRanges = 520;  // of keys
constexpr size_t kChunk = 240;

// A prompt in chunks, the last beside another prompt, and decode steps.
Answers AnswersOf(Model* model, size_t prompt_length) {
  std::mt19937_64 random(23);
  const auto cache = MakeCudaKvCache(*model, 40);
  PagedRunner runner(model, cache->region(), 1);
  const std::vector<TokenId> prompt = RandomTokens(prompt_length, *model, random);
  const std::vector<TokenId> other = RandomTokens(9, *model, random);
  const std::span<const TokenId> whole = prompt;
  PagedRunner::Sequence first, second;
  Answers answers;
  size_t done = 0;
  for (; done + kChunk < prompt_length; done += kChunk) {
    runner.Step({{&first, whole.subspan(done, kChunk), kChunk}});
  }
  answers.push_back(runner.Step({{&first, whole.subspan(done)}, {&second, other, 8}}).values);
  for (int i = 0; i < 4; ++i) {  // the last two as a graph
    const std::vector<TokenId> tokens = RandomTokens(2, *model, random);
    const std::span<const TokenId> both = tokens;
    answers.push_back(runner.Step({{&first, both.first(1)}, {&second, both.subspan(1)}}).values);
  }
  return answers;
}

class CudaDependentLaunchTest : public CudaTest {
 protected:
  static void ExpectTheSameBits(
      const std::string& weights, CudaModelOptions cuda, size_t prompt_length,
      std::span<const TinyModel> models = std::span(kCudaTinyModels).first(3)) {
    for (const TinyModel& tiny : models) {
      std::string config = tiny.config;
      const std::string positions = "\"max_position_embeddings\": 512";
      config.replace(config.find(positions), positions.size(), "\"max_position_embeddings\": 1024");
      ModelOptions options = {.path = DummyPath(tiny.name, config)};
      options.weights = weights;
      cuda.dependent_launch = false;
      const Answers expected = AnswersOf(LoadOnCuda(options, cuda).get(), prompt_length);
      cuda.dependent_launch = true;
      const auto model = *LoadCudaModel(options, cuda, nullptr);
      const CudaContext& context = model->context();
      EXPECT_EQ(context.dependent_launches(),
                context.info().compute_capability >= CudaContext::kDependentComputeCapability);
      EXPECT_EQ(AnswersOf(model.get(), prompt_length), expected) << tiny.name << " " << weights;
    }
  }
};

TEST_F(CudaDependentLaunchTest, StepsWithProductsOfTheLibraryGiveTheSameBits) {
  ExpectTheSameBits("", SmallLimits(), 60);
}

TEST_F(CudaDependentLaunchTest, BatchInvariantStepsGiveTheSameBits) {
  CudaModelOptions cuda = SmallLimits();
  cuda.batch_invariant = true;
  ExpectTheSameBits("", cuda, 60);
}

TEST_F(CudaDependentLaunchTest, StepsWithQuantizedWeightsGiveTheSameBits) {
  for (const char* weights : {"int8", "int4"}) ExpectTheSameBits(weights, SmallLimits(), 60);
}

TEST_F(CudaDependentLaunchTest, StepsOfE4m3GiveTheSameBits) {
  if (context().info().compute_capability != kFp8ComputeCapability) GTEST_SKIP() << "no fp8";
  ExpectTheSameBits("fp8", SmallLimits(), 60, std::span(kCudaTinyModels).last(1));
}

TEST_F(CudaDependentLaunchTest, StepsWithManyKeysGiveTheSameBitsWithoutGraphsAndByWgmma) {
  CudaModelOptions cuda = SmallLimits();
  cuda.use_graphs = false;
  cuda.prefers_wgmma = true;
  ExpectTheSameBits("", cuda, kSeveralRanges);
}

}  // namespace
}  // namespace baton
