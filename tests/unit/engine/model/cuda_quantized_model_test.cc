// Models with int8 and int4 weights on CUDA against the CPU: with the numbers that their weights
// stand for, in f32, and with the same weights, where activations are rounded to int8 besides.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "engine/kernels/cuda/linear.h"
#include "engine/kernels/cuda/quantized_linear.h"
#include "tests/support/source_dir.h"
#include "tests/unit/engine/model/cuda_model_harness.h"
#include "tests/unit/engine/model/rounded_checkpoint.h"

namespace baton {
namespace {

constexpr uint64_t kSeed = 20240919;
constexpr int32_t kNumBlocks = 64;

// Relative, root of the mean square, from logits in f32 with the same weights.
constexpr double kLogitTolerance = 0.015;

struct Tested {
  int32_t model;  // of kCudaTinyModels
  const char* weights;
};

class CudaQuantizedModelTest : public testing::TestWithParam<Tested> {
 protected:
  void SetUp() override {
    if (!HasCudaDevice()) GTEST_SKIP() << "no CUDA device";
    const TinyModel& model = kCudaTinyModels[GetParam().model];
    options_.path = DummyPath(model.name, model.config);
    options_.weights = GetParam().weights;
    model_ = LoadOnCuda(options_);
    cache_ = MakeCudaKvCache(*model_, kNumBlocks);
  }
  static std::unique_ptr<Model> LoadOnCpu(const ModelOptions& options) {
    auto model = Model::Load(options, nullptr);
    BATON_CHECK(model.ok()) << model.status();
    return *std::move(model);
  }
  std::vector<TokenId> Prompt(size_t length) { return RandomTokens(length, *model_, random_); }

  ModelOptions options_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<CudaKvCache> cache_;
  std::mt19937_64 random_{kSeed};
};

// More rows than the kernel of few takes, fewer, and one.
std::vector<Logits> RunSteps(PagedRunner* runner, const std::vector<TokenId>& tokens) {
  constexpr size_t kEnds[] = {kMaxQuantizedRows + 6, kMaxQuantizedRows + 27,
                              kMaxQuantizedRows + 28};
  std::vector<Logits> steps;
  PagedRunner::Sequence sequence;
  size_t begin = 0;
  for (const size_t end : kEnds) {
    steps.push_back(runner->Step({{&sequence, std::span(tokens).subspan(begin, end - begin)}}));
    begin = end;
  }
  return steps;
}

TEST_P(CudaQuantizedModelTest, LogitsAreThoseOfTheirWeightsInF32) {
  const RoundedCheckpoint rounded(options_.path, *WeightElementOf(options_));
  ModelOptions f32;
  f32.path = rounded.path();
  f32.f32 = true;
  const std::unique_ptr<Model> exact = LoadOnCpu(f32);
  const std::unique_ptr<Model> cpu = LoadOnCpu(options_);
  const std::vector<TokenId> tokens = Prompt(kMaxQuantizedRows + 28);
  PagedRunner on_cuda(model_.get(), cache_->region(), 1);
  PagedRunner in_f32(exact.get(), kNumBlocks, 2);
  PagedRunner on_cpu(cpu.get(), kNumBlocks, 3);
  const std::vector<Logits> steps = RunSteps(&on_cuda, tokens);
  const std::vector<Logits> expected = RunSteps(&in_f32, tokens);
  const std::vector<Logits> of_cpu = RunSteps(&on_cpu, tokens);
  for (size_t i = 0; i < steps.size(); ++i) {
    ASSERT_EQ(steps[i].num_rows, expected[i].num_rows);
    const double difference = RelativeRms(steps[i].values, expected[i].values);
    EXPECT_LT(difference, kLogitTolerance) << "step " << i;
    // The CPU rounds activations to 8 bits for 32 of them together; bf16 has 8 bits for each.
    EXPECT_LT(difference, RelativeRms(of_cpu[i].values, expected[i].values)) << "step " << i;
  }
}

// However many rows there are beside it, up to kMaxQuantizedRows: without buckets.
TEST_P(CudaQuantizedModelTest, ARowDependsOnItsOwnSequenceAloneBitForBit) {
  const std::vector<std::vector<TokenId>> prompts = {Prompt(31), Prompt(22), Prompt(9)};
  std::vector<std::vector<float>> expected;  // logits of each prompt's tokens: alone, at once
  for (const std::vector<TokenId>& prompt : prompts) {
    PagedRunner runner(model_.get(), cache_->region(), 5);
    PagedRunner::Sequence sequence;
    expected.push_back(runner.Step({{&sequence, prompt}}).values);
  }
  const auto vocab = static_cast<size_t>(model_->info().vocab_size);
  PagedRunner runner(model_.get(), cache_->region(), 7);
  RunInRandomChunks(
      prompts, 12, random_,
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

INSTANTIATE_TEST_SUITE_P(All, CudaQuantizedModelTest,
                         testing::Values(Tested{0, "int8"}, Tested{1, "int4"}, Tested{2, "int8"},
                                         Tested{3, "int4"}),
                         [](const testing::TestParamInfo<Tested>& tested) {
                           return std::string(kCudaTinyModels[tested.param.model].name) + "_" +
                                  tested.param.weights;
                         });

std::vector<TokenId> Continuation(PagedRunner runner, size_t length) {
  const std::vector<TokenId> prompt = {5, 300, 77, 1500, 12, 9, 640, 2, 33, 1021, 18, 7};
  PagedRunner::Sequence sequence;
  const auto last = static_cast<int32_t>(prompt.size()) - 1;
  std::vector<TokenId> tokens = {ArgMax(runner.Step({{&sequence, prompt, last}}).Row(0))};
  while (tokens.size() < length) {
    const std::vector<TokenId> token = {tokens.back()};
    tokens.push_back(ArgMax(runner.Step({{&sequence, token}}).Row(0)));
  }
  return tokens;
}

// int4, whose logits are int8: both kinds.
TEST(CudaQuantizedDemoTest, TheDemoModelGoesOnAsOnTheCpu) {
  if (!HasCudaDevice()) GTEST_SKIP() << "no CUDA device";
  ModelOptions options;
  options.path = SourceDir() + "/models/demo";
  options.weights = "int4";
  const auto cuda = LoadOnCuda(options);
  const auto cpu = *Model::Load(options, nullptr);
  const auto cache = MakeCudaKvCache(*cuda, 8);
  EXPECT_EQ(Continuation(PagedRunner(cuda.get(), cache->region(), 1), 12),
            Continuation(PagedRunner(cpu.get(), 8, 2), 12));
}

constexpr char kNoFp8[] = "no CUDA device of compute capability 9.0, or cuBLASLt before 12.9";
bool HasFp8() {
  const auto context = CudaContext::Create(0);
  return context.ok() && (*context)->info().compute_capability == kFp8ComputeCapability &&
         CheckFp8Library().ok();
}

TEST(CudaFp8ModelTest, LogitsAreNearThoseOfTheirWeightsInF32) {
  if (!HasFp8()) GTEST_SKIP() << kNoFp8;
  // Rounding to e4m3 changes a number by 2.6 % (root of the mean square), and a layer has three
  // products one behind another.
  constexpr double kTolerance = 0.12;
  ModelOptions options;
  options.path = DummyPath(kCudaTinyModels[3].name, kCudaTinyModels[3].config);
  options.weights = "fp8";
  const auto model = LoadOnCuda(options);
  EXPECT_EQ(model->info().weight_dtype, "fp8");
  const RoundedCheckpoint rounded(options.path, WeightElement::kFp8);
  ModelOptions f32;
  f32.path = rounded.path();
  f32.f32 = true;
  const auto exact = *Model::Load(f32, nullptr);
  std::mt19937_64 random(kSeed);
  const std::vector<TokenId> tokens = RandomTokens(kMaxQuantizedRows + 28, *model, random);
  const auto cache = MakeCudaKvCache(*model, kNumBlocks);
  PagedRunner on_cuda(model.get(), cache->region(), 1);
  PagedRunner in_f32(exact.get(), kNumBlocks, 2);
  const std::vector<Logits> steps = RunSteps(&on_cuda, tokens);
  const std::vector<Logits> expected = RunSteps(&in_f32, tokens);
  for (size_t i = 0; i < steps.size(); ++i) {
    EXPECT_LT(RelativeRms(steps[i].values, expected[i].values), kTolerance) << "step " << i;
  }
}

TEST(CudaFp8ModelTest, TheDemoModelGoesOnAsOnTheCpu) {
  if (!HasFp8()) GTEST_SKIP() << kNoFp8;
  ModelOptions options;
  options.path = SourceDir() + "/models/demo";
  const auto cpu = *Model::Load(options, nullptr);
  options.weights = "fp8";
  const auto cuda = LoadOnCuda(options);
  const auto cache = MakeCudaKvCache(*cuda, 8);
  EXPECT_EQ(Continuation(PagedRunner(cuda.get(), cache->region(), 1), 6),
            Continuation(PagedRunner(cpu.get(), 8, 2), 6));
}

TEST(CudaFp8ModelTest, IsRefusedWhereItIsNotThere) {
  ModelOptions options;
  options.weights = "fp8";
  options.path = DummyPath(kCudaTinyModels[0].name, kCudaTinyModels[0].config);
  const absl::Status on_cpu = Model::Load(options, nullptr).status();
  EXPECT_EQ(on_cpu.code(), absl::StatusCode::kUnimplemented) << on_cpu;
  if (!HasFp8()) GTEST_SKIP() << kNoFp8;
  const absl::Status odd_size = LoadCudaModel(options, SmallLimits(), nullptr).status();
  EXPECT_EQ(odd_size.code(), absl::StatusCode::kUnimplemented) << odd_size;
  EXPECT_THAT(std::string(odd_size.message()), testing::HasSubstr("hidden_size is 72"));
}

TEST(CudaQuantizedModelInfoTest, TellsItsWeightsAndExchangesNoKvWithOthers) {
  if (!HasCudaDevice()) GTEST_SKIP() << "no CUDA device";
  ModelOptions options;
  options.path = DummyPath(kCudaTinyModels[0].name, kCudaTinyModels[0].config);
  std::vector<uint64_t> fingerprints;
  int64_t bf16_bytes = 0;
  for (const char* weights : {"", "int8", "int4"}) {
    options.weights = weights;
    const auto cuda = LoadOnCuda(options);
    const auto cpu = *Model::Load(options, nullptr);
    EXPECT_EQ(cuda->info().weight_dtype, cpu->info().weight_dtype);
    EXPECT_EQ(cuda->info().num_parameters, cpu->info().num_parameters);
    fingerprints.push_back(cuda->info().fingerprint);
    fingerprints.push_back(cpu->info().fingerprint);
    if (bf16_bytes == 0) bf16_bytes = cuda->info().weight_bytes;
    EXPECT_EQ(cuda->info().weight_bytes < bf16_bytes, options.weights != "");
  }
  std::ranges::sort(fingerprints);
  EXPECT_EQ(std::ranges::adjacent_find(fingerprints), fingerprints.end());
  options.weights = "int3";
  const absl::Status status = LoadCudaModel(options, SmallLimits(), nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
}

}  // namespace
}  // namespace baton
