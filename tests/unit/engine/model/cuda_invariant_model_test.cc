// Batch-invariant models on CUDA: a token's logits depend on its own sequence alone, bit for bit,
// however many rows a step has. (Without the mode the emulated cuBLASLt adds in another order for
// another number of rows, as a device's may: see AProductsBitsMayDependOnItsNumberOfRows.)
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/unit/engine/model/cuda_model_harness.h"

namespace baton {
namespace {

using testing::HasSubstr;

constexpr uint64_t kSeed = 20261124;
constexpr int32_t kNumBlocks = 256;
constexpr double kLogitTolerance = 0.02;  // as between CUDA and the CPU: bf16 between ops

struct Tested {
  int32_t model;  // of kCudaTinyModels
  const char* weights;
};

CudaModelOptions Invariant() {
  CudaModelOptions cuda = SmallLimits();
  cuda.batch_invariant = true;
  return cuda;
}

ModelOptions OptionsOf(const Tested& tested) {
  const TinyModel& model = kCudaTinyModels[tested.model];
  return {.path = DummyPath(model.name, model.config), .weights = tested.weights};
}

class CudaInvariantModelTest : public testing::TestWithParam<Tested> {
 protected:
  void SetUp() override {
    if (!HasCudaDevice()) GTEST_SKIP() << "no CUDA device";
    model_ = LoadOnCuda(OptionsOf(GetParam()), Invariant());
    cache_ = MakeCudaKvCache(*model_, kNumBlocks);
    for (const size_t length : {size_t{70}, size_t{40}, size_t{10}}) {
      prompts_.push_back(RandomTokens(length, *model_, random_));
    }
  }

  // Of each prompt's tokens: alone, all in one step.
  std::vector<std::vector<float>> WholePrompts() {
    std::vector<std::vector<float>> logits;
    for (const std::vector<TokenId>& prompt : prompts_) {
      PagedRunner runner(model_.get(), cache_->region(), 5);
      PagedRunner::Sequence sequence;
      logits.push_back(runner.Step({{&sequence, prompt}}).values);
    }
    return logits;
  }
  // The prompts together, in chunks of up to `max_chunk` tokens.
  void ExpectSameInChunks(size_t max_chunk, const std::vector<std::vector<float>>& expected) {
    const auto vocab = static_cast<size_t>(model_->info().vocab_size);
    PagedRunner runner(model_.get(), cache_->region(), 7);
    RunInRandomChunks(
        prompts_, max_chunk, random_,
        [&](const std::vector<PagedRunner::Chunk>& chunks) -> const Logits& {
          return runner.Step(chunks);
        },
        [&](size_t prompt, size_t position, std::span<const float> logits) {
          ASSERT_EQ(std::memcmp(logits.data(), expected[prompt].data() + position * vocab,
                                vocab * sizeof(float)),
                    0)
              << "prompt " << prompt << " position " << position;
        });
  }

  std::mt19937_64 random_{kSeed};
  std::unique_ptr<Model> model_;
  std::unique_ptr<CudaKvCache> cache_;
  std::vector<std::vector<TokenId>> prompts_;
};

TEST_P(CudaInvariantModelTest, ARowDependsOnItsOwnSequenceAloneBitForBit) {
  ExpectSameInChunks(50, WholePrompts());
}

// As graphs, whose rows are filled up.
TEST_P(CudaInvariantModelTest, DecodeStepsGiveTheBitsOfThePrompt) {
  for (std::vector<TokenId>& prompt : prompts_) prompt.resize(prompt.size() / 10);
  ExpectSameInChunks(1, WholePrompts());
}

TEST_P(CudaInvariantModelTest, LogitsAreNearlyThoseOfTheLibrarysProducts) {
  const std::unique_ptr<Model> other = LoadOnCuda(OptionsOf(GetParam()));
  const std::unique_ptr<CudaKvCache> cache = MakeCudaKvCache(*other, kNumBlocks);
  PagedRunner runner(model_.get(), cache_->region(), 1);
  PagedRunner by_library(other.get(), cache->region(), 2);
  PagedRunner::Sequence sequence, its;
  EXPECT_LT(RelativeRms(runner.Step({{&sequence, prompts_[2]}}).values,
                        by_library.Step({{&its, prompts_[2]}}).values),
            kLogitTolerance);
}

INSTANTIATE_TEST_SUITE_P(All, CudaInvariantModelTest,
                         testing::Values(Tested{0, ""}, Tested{2, ""}, Tested{3, ""},
                                         Tested{3, "int8"}, Tested{1, "int4"}),
                         [](const testing::TestParamInfo<Tested>& tested) {
                           return std::string(kCudaTinyModels[tested.param.model].name) +
                                  tested.param.weights;
                         });

TEST(CudaInvariantModelContractTest, RefusesWhatDependsOnTheBatchAndSaysWhatToDo) {
  if (!HasCudaDevice()) GTEST_SKIP() << "no CUDA device";
  const auto refusal = [](const ModelOptions& options) {
    const absl::Status status = LoadCudaModel(options, Invariant(), nullptr).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(refusal(OptionsOf({0, "fp8"})), HasSubstr("fp8"));
}

TEST(CudaInvariantModelContractTest, ExchangesNoKvWithOthersAndSaysWhatItIs) {
  if (!HasCudaDevice()) GTEST_SKIP() << "no CUDA device";
  for (const char* weights : {"", "int8"}) {
    const ModelOptions options = OptionsOf({0, weights});
    const ModelInfo info = LoadOnCuda(options, Invariant())->info();
    EXPECT_EQ(info.fingerprint, LoadOnCuda(options, Invariant())->info().fingerprint);
    EXPECT_NE(info.fingerprint, LoadOnCuda(options)->info().fingerprint);
    EXPECT_THAT(info.kernels, testing::EndsWith(" batch-invariant"));
  }
}

// Neither what is measured when it starts nor wgmma may decide bits.
TEST(CudaInvariantModelContractTest, TunesNothingAndTakesNoWgmma) {
  if (!HasCudaDevice()) GTEST_SKIP() << "no CUDA device";
  const ModelOptions options = OptionsOf({3, ""});
  const auto plain = LoadOnCuda(options, Invariant());
  CudaModelOptions cuda = Invariant();
  cuda.tune_products = true;
  cuda.prefers_wgmma = true;
  const auto other = LoadOnCuda(options, cuda);
  EXPECT_EQ(other->info().kernels, plain->info().kernels);
  EXPECT_EQ(other->info().fingerprint, plain->info().fingerprint);
  std::mt19937_64 random(kSeed);
  const std::vector<TokenId> prompt = RandomTokens(70, *plain, random);
  const auto logits_of = [&](Model* model) {
    const auto cache = MakeCudaKvCache(*model, 8);
    PagedRunner runner(model, cache->region(), 1);
    PagedRunner::Sequence sequence;
    return runner.Step({{&sequence, prompt}}).values;
  };
  EXPECT_EQ(logits_of(other.get()), logits_of(plain.get()));
}

}  // namespace
}  // namespace baton
