// A model on CUDA against the same one on the CPU, and the contract of Model beside its numbers.
#include "engine/model/cuda/cuda_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/kernels/isa.h"
#include "tests/support/source_dir.h"
#include "tests/unit/engine/model/cuda_model_harness.h"

namespace baton {
namespace {

using testing::HasSubstr;

constexpr uint64_t kSeed = 20240917;
constexpr int32_t kNumBlocks = 64;
// Relative, root of the mean square: bf16 keeps 8 bits, and both sides round in other places.
constexpr double kLogitTolerance = 0.02;
constexpr double kF32Tolerance = 0.012;  // from f32: all but sums are bf16

testing::AssertionResult SameBits(std::span<const float> a, std::span<const float> b) {
  if (a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << "relative difference " << RelativeRms(a, b);
}

class CudaModelTest : public testing::TestWithParam<TinyModel> {
 protected:
  void SetUp() override {
    if (!HasCudaDevice()) GTEST_SKIP() << "no CUDA device";
    options_.path = DummyPath(GetParam().name, GetParam().config);
    model_ = LoadOnCuda(options_);
    cache_ = MakeCudaKvCache(*model_, kNumBlocks);
  }
  std::unique_ptr<Model> LoadOnCpu(bool f32 = false) {
    ModelOptions options = options_;
    options.f32 = f32;
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

// Prefill in chunks, then decode rows beside other sequences' chunks.
std::vector<Logits> RunSteps(PagedRunner* runner, const std::vector<TokenId>& a,
                             const std::vector<TokenId>& b, const std::vector<TokenId>& c) {
  const auto part = [](const std::vector<TokenId>& tokens, size_t begin, size_t end) {
    return std::span(tokens).subspan(begin, end - begin);
  };
  PagedRunner::Sequence first, second, third;
  std::vector<Logits> steps;
  steps.push_back(runner->Step({{&first, part(a, 0, 50)}, {&second, part(b, 0, 3)}}));
  steps.push_back(runner->Step({{&first, part(a, 50, 90)}}));
  steps.push_back(runner->Step(
      {{&second, part(b, 3, 4)}, {&third, part(c, 0, 21)}, {&first, part(a, 90, 91)}}));
  for (size_t at = 0; at < 3; ++at) {
    steps.push_back(runner->Step({{&first, part(a, 91 + at, 92 + at)},
                                  {&second, part(b, 4 + at, 5 + at)},
                                  {&third, part(c, 21 + at, 22 + at)}}));
  }
  return steps;
}

TEST_P(CudaModelTest, LogitsAreThoseOfTheCpu) {
  const std::unique_ptr<Model> cpu = LoadOnCpu();
  const std::unique_ptr<Model> exact = LoadOnCpu(/*f32=*/true);
  const std::vector<TokenId> a = Prompt(94), b = Prompt(7), c = Prompt(24);
  PagedRunner on_cuda(model_.get(), cache_->region(), 1);
  PagedRunner on_cpu(cpu.get(), kNumBlocks, 2);
  PagedRunner in_f32(exact.get(), kNumBlocks, 3);
  const std::vector<Logits> steps = RunSteps(&on_cuda, a, b, c);
  const std::vector<Logits> expected = RunSteps(&on_cpu, a, b, c);
  const std::vector<Logits> exact_steps = RunSteps(&in_f32, a, b, c);
  for (size_t i = 0; i < steps.size(); ++i) {
    ASSERT_EQ(steps[i].num_rows, expected[i].num_rows);
    EXPECT_LT(RelativeRms(steps[i].values, expected[i].values), kLogitTolerance) << "step " << i;
    for (int32_t row = 0; row < steps[i].num_rows; ++row) {
      ASSERT_LT(RelativeRms(steps[i].Row(row), expected[i].Row(row)), 3 * kLogitTolerance)
          << "step " << i << " row " << row;
    }
    const double from_f32 = RelativeRms(steps[i].values, exact_steps[i].values);
    EXPECT_LT(from_f32, kF32Tolerance) << "step " << i;
    // Nor much farther than a CPU that rounds activations to bf16, too.
    if (*BestIsa() == Isa::kAvx512Bf16) {
      EXPECT_LT(from_f32, 2 * RelativeRms(expected[i].values, exact_steps[i].values))
          << "step " << i;
    }
  }
}

// Steps of as many rows each, so that products are always of one bucket: what is left beside the
// prompts' chunks a sequence of no interest fills up.
class Filled {
 public:
  static constexpr size_t kRows = 32;
  Filled(PagedRunner* runner, const Model& model, uint64_t seed)
      : runner_(*runner), model_(model), random_(seed) {}
  const Logits& Step(std::vector<PagedRunner::Chunk> chunks) {
    size_t rows = 0;
    for (const PagedRunner::Chunk& chunk : chunks) rows += chunk.tokens.size();
    PagedRunner::Sequence filler;
    const std::vector<TokenId> tokens = RandomTokens(kRows - rows, model_, random_);
    if (rows < kRows) chunks.push_back({&filler, tokens});
    return runner_.Step(chunks);
  }

 private:
  PagedRunner& runner_;
  const Model& model_;
  std::mt19937_64 random_;
};

TEST_P(CudaModelTest, ARowDependsOnItsOwnSequenceAloneBitForBit) {
  constexpr int32_t kManyBlocks = 256;
  const std::vector<std::vector<TokenId>> prompts = {Prompt(75), Prompt(33), Prompt(9)};
  const auto wide = MakeCudaKvCache(*model_, kManyBlocks);
  std::vector<std::vector<std::vector<float>>> expected;  // of each prompt's tokens: alone
  for (const std::vector<TokenId>& prompt : prompts) {
    PagedRunner runner(model_.get(), wide->region(), 5);
    Filled filled(&runner, *model_, 6);
    PagedRunner::Sequence sequence;
    expected.emplace_back();
    for (size_t begin = 0; begin < prompt.size(); begin += Filled::kRows) {
      const size_t size = std::min(Filled::kRows, prompt.size() - begin);
      const Logits& logits = filled.Step({{&sequence, std::span(prompt).subspan(begin, size)}});
      for (size_t row = 0; row < size; ++row) {
        const std::span<const float> values = logits.Row(static_cast<int32_t>(row));
        expected.back().emplace_back(values.begin(), values.end());
      }
    }
  }
  PagedRunner runner(model_.get(), wide->region(), 7);
  Filled filled(&runner, *model_, 8);
  RunInRandomChunks(
      prompts, 10, random_,
      [&](const std::vector<PagedRunner::Chunk>& chunks) -> const Logits& {
        return filled.Step(chunks);
      },
      [&](size_t prompt, size_t position, std::span<const float> logits) {
        ASSERT_TRUE(SameBits(logits, expected[prompt][position]))
            << "prompt " << prompt << " position " << position;
      });
}

TEST_P(CudaModelTest, LayersAreDoneInOrderWhenTheirKvIsFinal) {
  PagedRunner runner(model_.get(), cache_->region(), 1);
  const std::vector<std::byte> before = ReadLayer(cache_->region(), 0);
  std::vector<int32_t> layers;
  std::vector<std::vector<std::byte>> seen;
  PagedRunner::Sequence sequence;
  const std::vector<TokenId> prompt = Prompt(20);
  runner.Step({{&sequence, prompt}}, [&](int32_t layer) {
    layers.push_back(layer);
    seen.push_back(ReadLayer(cache_->region(), layer));
  });
  ASSERT_EQ(static_cast<int32_t>(layers.size()), model_->info().num_layers);
  EXPECT_TRUE(std::ranges::is_sorted(layers));
  for (size_t i = 0; i < seen.size(); ++i) {
    EXPECT_EQ(layers[i], static_cast<int32_t>(i));
    EXPECT_NE(seen[i], before);
    EXPECT_EQ(seen[i], ReadLayer(cache_->region(), static_cast<int32_t>(i))) << "layer " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(All, CudaModelTest, testing::ValuesIn(kCudaTinyModels),
                         [](const testing::TestParamInfo<TinyModel>& tested) {
                           return std::string(tested.param.name);
                         });

class CudaModelContractTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasCudaDevice()) GTEST_SKIP() << "no CUDA device";
    options_.path = DummyPath(kCudaTinyModels[0].name, kCudaTinyModels[0].config);
  }
  absl::Status LoadStatus(const ModelOptions& options, CudaModelOptions cuda = SmallLimits()) {
    return LoadCudaModel(options, cuda, nullptr).status();
  }
  static void ExpectUnimplemented(const absl::Status& status, const char* what) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  }
  ModelOptions options_;
};

TEST_F(CudaModelContractTest, TellsWhatItIs) {
  const auto cuda = LoadOnCuda(options_);
  const auto cpu = *Model::Load(options_, nullptr);
  EXPECT_THAT(cuda->info().kernels, testing::StartsWith("cuda sm_"));
  EXPECT_EQ(cuda->info().weight_dtype, "bf16");
  EXPECT_EQ(cuda->info().name, cpu->info().name);
  EXPECT_EQ(cuda->info().num_parameters, cpu->info().num_parameters);
  EXPECT_EQ(cuda->kv_layout(), cpu->kv_layout());
  EXPECT_NE(cuda->info().fingerprint, cpu->info().fingerprint) << "other bits come out";
  EXPECT_EQ(cuda->info().fingerprint, LoadOnCuda(options_)->info().fingerprint);
}

TEST_F(CudaModelContractTest, RefusesWhatItCannotDoAndSaysWhy) {
  ModelOptions options = options_;
  options.f32 = true;
  ExpectUnimplemented(LoadStatus(options), "f32");
  options = options_;
  options.kv_dtype = "int8";
  ExpectUnimplemented(LoadStatus(options), "int8");
  options = options_;
  options.shard.size = 2;
  ExpectUnimplemented(LoadStatus(options), "2 processes by columns");
  std::string config = kCudaTinyModels[0].config;
  options = options_;
  options.path = DummyPath("odd_vocab", config.replace(config.find("152"), 3, "150"));
  ExpectUnimplemented(LoadStatus(options), "vocab_size is 150");
  config = kCudaTinyModels[0].config;
  options.path = DummyPath("odd_heads",
                           config.replace(config.find("\"head_dim\": 64"), 14, "\"head_dim\": 32"));
  ExpectUnimplemented(LoadStatus(options), "heads of 32");
  options = options_;
  options.block_size = 24;
  EXPECT_EQ(LoadStatus(options).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(LoadStatus(options_, {.max_batch_tokens = 0}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(LoadStatus(options_, {.device = 4711}).code(), absl::StatusCode::kNotFound);
}

TEST_F(CudaModelContractTest, RefusesABatchBeyondWhatItWasSetUpFor) {
  const auto model = LoadOnCuda(options_, {.max_batch_tokens = 20,
                                           .max_sequences = 2,
                                           .max_logit_rows = 4,
                                           .max_positions = 40,
                                           .tune_products = false});
  const auto cache = MakeCudaKvCache(*model, 8);
  const std::vector<TokenId> tokens(21, 1);
  const std::vector<BlockId> table = {BlockId(0), BlockId(1), BlockId(2)};
  const auto refused = [&](const std::vector<ForwardSequence>& batch, const char* what) {
    Logits logits;
    const absl::Status status = model->Forward(batch, cache->region(), nullptr, &logits);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  };
  const std::span<const TokenId> one(tokens.data(), 1);
  const ForwardSequence small = {.tokens = one, .block_table = table};
  refused({{.tokens = tokens, .block_table = table, .first_logit_token = 21}}, "21 tokens");
  refused({small, small, small}, "3 sequences");
  refused({{.tokens = {tokens.data(), 5}, .block_table = table}}, "5 rows of logits");
  refused({{.tokens = one, .start_position = 40, .block_table = table}}, "41 positions");
  refused({{.tokens = {}, .block_table = table}}, "no tokens");
  refused({{.tokens = one, .block_table = table, .draw = 0}}, "there was none");
  KvRegion other = cache->region();
  other.layout.block_size = 32;
  Logits logits;
  EXPECT_EQ(model->Forward({}, other, nullptr, &logits).code(), absl::StatusCode::kInvalidArgument);
  // And goes on.
  PagedRunner runner(model.get(), cache->region(), 1);
  PagedRunner::Sequence sequence;
  EXPECT_EQ(runner.Step({{&sequence, one}}).num_rows, 1);
  EXPECT_EQ(runner.Step({}).num_rows, 0);
}

TEST_F(CudaModelContractTest, TellsWhatAStepTookIfItIsAsked) {
  for (const bool use_graphs : {false, true}) {
    CudaStepTimes times;
    CudaModelOptions cuda = SmallLimits();
    cuda.use_graphs = use_graphs;
    cuda.step_times = &times;
    const auto model = LoadOnCuda(options_, cuda);
    const auto cache = MakeCudaKvCache(*model, 4);
    PagedRunner runner(model.get(), cache->region(), 1);
    PagedRunner::Sequence sequence;
    const std::vector<TokenId> token = {5};
    for (int step = 0; step < 3; ++step) {  // with graphs it runs, is captured, is started as one
      times = {};
      runner.Step({{&sequence, token}});
      EXPECT_GT(times.host_ms, 0) << step;
      EXPECT_GT(times.device_ms, 0) << step;
    }
  }
}

TEST_F(CudaModelContractTest, TunedProductsGiveNearlyTheSameLogits) {
  CudaModelOptions cuda = SmallLimits();
  cuda.max_batch_tokens = 9;
  const auto plain = LoadOnCuda(options_, cuda);
  cuda.tune_products = true;
  const auto tuned = LoadOnCuda(options_, cuda);
  const auto logits_of = [](Model* model) {
    const auto cache = MakeCudaKvCache(*model, 4);
    PagedRunner runner(model, cache->region(), 1);
    PagedRunner::Sequence sequence;
    const std::vector<TokenId> tokens = {5, 6, 7, 8, 9};
    return runner.Step({{&sequence, tokens}});
  };
  EXPECT_LT(RelativeRms(logits_of(tuned.get()).values, logits_of(plain.get()).values),
            kLogitTolerance);
}

// Those of heads that wgmma does not have are the same.
TEST_F(CudaModelContractTest, PromptsByWgmmaGiveNearlyTheSameLogits) {
  for (const auto& [name, config] : kCudaTinyModels) {
    options_.path = DummyPath(name, config);
    CudaModelOptions cuda = SmallLimits();
    const auto plain = LoadOnCuda(options_, cuda);
    cuda.prefers_wgmma = true;
    const auto wgmma = *LoadCudaModel(options_, cuda, nullptr);
    const bool has_wgmma = HasWgmmaAttention(wgmma->context().info(), wgmma->kv_layout().head_dim);
    EXPECT_EQ(wgmma->info().kernels, plain->info().kernels + (has_wgmma ? " wgmma" : ""));
    const auto logits_of = [](Model* model) {
      std::mt19937_64 random(kSeed);
      const auto cache = MakeCudaKvCache(*model, 16);
      PagedRunner runner(model, cache->region(), 1);
      const std::vector<TokenId> tokens = RandomTokens(200, *model, random);
      const std::span<const TokenId> all = tokens;
      PagedRunner::Sequence sequence;
      runner.Step({{&sequence, all.first(120)}});
      return runner.Step({{&sequence, all.subspan(120)}}).values;
    };
    EXPECT_LT(RelativeRms(logits_of(wgmma.get()), logits_of(plain.get())), kLogitTolerance) << name;
  }
}

TEST_F(CudaModelContractTest, CopiesBlocksInTheOrderGiven) {
  const auto model = LoadOnCuda(options_);
  const auto cache = MakeCudaKvCache(*model, 6);
  const KvRegion& kv = cache->region();
  const auto block_bytes = static_cast<size_t>(kv.layout.BlockBytes());
  std::vector<std::vector<std::byte>> expected;  // of each layer
  std::vector<std::byte*> expected_base;
  for (int32_t layer = 0; layer < kv.layout.num_layers; ++layer) {
    std::vector<std::byte> bytes(6 * block_bytes);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    ASSERT_EQ(cudaMemcpy(kv.layer_base[static_cast<size_t>(layer)], bytes.data(), bytes.size(),
                         cudaMemcpyHostToDevice),
              cudaSuccess);
    expected.push_back(std::move(bytes));
  }
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);  // else other streams may not see them yet
  for (std::vector<std::byte>& bytes : expected) expected_base.push_back(bytes.data());
  const std::vector<KvBlockCopy> copies = {{BlockId(0), BlockId(1)},  // read below
                                           {BlockId(1), BlockId(2)},
                                           {BlockId(3), BlockId(1)},  // written again
                                           {BlockId(5), BlockId(3)},  // read above
                                           {BlockId(5), BlockId(4)}};
  CopyKvBlocks(copies, {.layout = kv.layout, .num_blocks = 6, .layer_base = expected_base});
  ASSERT_TRUE(model->CopyBlocks(copies, kv).ok());
  for (int32_t layer = 0; layer < kv.layout.num_layers; ++layer) {
    EXPECT_EQ(ReadLayer(kv, layer), expected[static_cast<size_t>(layer)]) << "layer " << layer;
  }
  EXPECT_TRUE(model->CopyBlocks({}, kv).ok());
}

// Six rows with two ranges of keys each, and scratch for four.
TEST_F(CudaModelContractTest, DecodeRowsTakeTurnsWhereThereIsTooLittleScratch) {
  constexpr int32_t kPrefix = 512;  // whole blocks
  std::string config = kCudaTinyModels[0].config;
  config.replace(config.find("\"max_position_embeddings\": 512"), 30,
                 "\"max_position_embeddings\": 1024");
  options_.path = DummyPath("long", config);
  CudaModelOptions cuda = SmallLimits();
  cuda.max_batch_tokens = kPrefix;
  cuda.attention_scratch_bytes = 1;
  const auto model = LoadOnCuda(options_, cuda);
  const auto cache = MakeCudaKvCache(*model, 64);
  PagedRunner runner(model.get(), cache->region(), 1);
  std::mt19937_64 random(kSeed);
  const std::vector<TokenId> prefix = RandomTokens(kPrefix, *model, random);
  const std::vector<TokenId> tokens = RandomTokens(6, *model, random);
  PagedRunner::Sequence first;
  runner.Step({{&first, prefix, kPrefix}});
  std::vector<PagedRunner::Sequence> sequences(tokens.size(), first);
  std::vector<PagedRunner::Chunk> chunks;
  for (size_t i = 0; i < tokens.size(); ++i) {
    chunks.push_back({&sequences[i], std::span(tokens).subspan(i, 1)});
  }
  const Logits together = runner.Step(chunks);
  for (size_t i = 0; i < tokens.size(); ++i) {
    PagedRunner::Sequence sequence = first;
    const Logits& alone = runner.Step({{&sequence, std::span(tokens).subspan(i, 1)}});
    EXPECT_LT(RelativeRms(together.Row(static_cast<int32_t>(i)), alone.Row(0)), kLogitTolerance);
  }
}

TEST_F(CudaModelContractTest, KvBlocksThatDoNotFitAreRefusedWithNumbers) {
  const KvLayout layout = {.num_layers = 32, .num_kv_heads = 8, .head_dim = 128};
  const absl::StatusOr<int32_t> fit = CudaKvBlocksThatFit(0, layout, 0.5, 0);
  ASSERT_TRUE(fit.ok()) << fit.status();
  EXPECT_GT(*fit, 0);
  const absl::StatusOr<int32_t> all = CudaKvBlocksThatFit(0, layout, 1.0, 0);
  EXPECT_NEAR(*all, 2 * *fit, 1);
  const int64_t half_bytes = *fit * layout.BlockBytes() * layout.num_layers;
  EXPECT_NEAR(*CudaKvBlocksThatFit(0, layout, 1.0, half_bytes), *fit, 1);
  EXPECT_THAT(std::string(CudaKvBlocksThatFit(0, layout, 0.4, half_bytes).status().message()),
              HasSubstr("larger share"));
  const absl::Status status = CudaKvCache::Create(0, layout, 2 * *all).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("room for"));
  EXPECT_EQ(CudaKvCache::Create(0, layout, 0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CudaKvCache::Create(4711, layout, 1).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(CudaModelContractTest, TheDemoModelGoesOnAsOnTheCpu) {
  options_.path = SourceDir() + "/models/demo";
  const auto cuda = LoadOnCuda(options_);
  const auto cpu = *Model::Load(options_, nullptr);
  const auto cache = MakeCudaKvCache(*cuda, 8);
  std::mt19937_64 random(kSeed);
  const std::vector<TokenId> prompt = RandomTokens(12, *cpu, random);
  const auto continuation = [&](Model* model, PagedRunner runner) {
    PagedRunner::Sequence sequence;
    const auto last = static_cast<int32_t>(prompt.size()) - 1;
    std::vector<TokenId> tokens = {ArgMax(runner.Step({{&sequence, prompt, last}}).Row(0))};
    while (tokens.size() < 20) {
      const std::vector<TokenId> token = {tokens.back()};
      tokens.push_back(ArgMax(runner.Step({{&sequence, token}}).Row(0)));
    }
    EXPECT_EQ(model->info().vocab_size, 2048);
    return tokens;
  };
  EXPECT_EQ(continuation(cuda.get(), PagedRunner(cuda.get(), cache->region(), 1)),
            continuation(cpu.get(), PagedRunner(cpu.get(), 8, 2)));
}

}  // namespace
}  // namespace baton
