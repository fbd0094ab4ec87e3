// A row's logits depend on its own sequence alone, bit for bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/kernels/isa.h"
#include "tests/unit/engine/model/paged_runner.h"
#include "tests/unit/engine/model/tiny_models.h"

namespace baton {
namespace {

// Bits, not values: == would take 0 and -0 for equal and no NaN for equal.
testing::AssertionResult SameBits(std::span<const float> a, std::span<const float> b) {
  if (a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0) {
    return testing::AssertionSuccess();
  }
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (std::memcmp(&a[i], &b[i], sizeof(float)) != 0) {
      return testing::AssertionFailure() << "logit " << i << ": " << a[i] << " and " << b[i];
    }
  }
  return testing::AssertionFailure() << a.size() << " and " << b.size() << " logits";
}

struct Case {
  std::string config;  // of tiny_models.h
  Isa isa = Isa::kAvx512Bf16;
  bool f32 = false;
  std::string weights;   // ModelOptions::weights
  std::string kv_dtype;  // ModelOptions::kv_dtype
};

class BatchInvarianceTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (GetParam().isa > *BestIsa()) GTEST_SKIP() << "this CPU lacks the instructions";
    one_thread_ = Load(1, 16);
    std::mt19937_64 random(kSeed);
    for (const size_t length : {150u, 70u, 131u, 9u, 200u}) {
      std::vector<TokenId> tokens(length);
      for (TokenId& token : tokens) {
        token =
            static_cast<TokenId>(random() % static_cast<uint64_t>(one_thread_->info().vocab_size));
      }
      prompts_.push_back(std::move(tokens));
      PagedRunner runner(one_thread_.get(), kNumBlocks, random());
      PagedRunner::Sequence sequence;
      expected_.push_back(runner.Step({{&sequence, prompts_.back()}}));
    }
  }

  std::unique_ptr<Model> Load(int32_t num_threads, int32_t block_size) {
    ModelOptions options;
    options.path = TinyModelPath(GetParam().config);
    options.isa = IsaName(GetParam().isa);
    options.f32 = GetParam().f32;
    options.weights = GetParam().weights;
    options.kv_dtype = GetParam().kv_dtype;
    options.num_threads = num_threads;
    options.block_size = block_size;
    auto model = Model::Load(options, nullptr);
    EXPECT_TRUE(model.ok()) << model.status();
    return *std::move(model);
  }

  // Runs all prompts to their ends in steps of random shape and compares every row of logits.
  // Each step takes a random subset of the sequences with chunks of 1 to max_chunk tokens.
  void RunMixed(Model* model, uint64_t seed, int32_t max_chunk) {
    SCOPED_TRACE(testing::Message() << "seed " << seed << " max_chunk " << max_chunk);
    std::mt19937_64 random(seed);
    PagedRunner runner(model, kNumBlocks, seed);
    std::vector<PagedRunner::Sequence> sequences(prompts_.size());
    while (true) {
      std::vector<PagedRunner::Chunk> chunks;
      std::vector<std::pair<size_t, int32_t>> rows;  // prompt and position of each row of logits
      bool all_done = true;
      for (size_t i = 0; i < prompts_.size(); ++i) {
        const auto left = static_cast<int32_t>(prompts_[i].size()) - sequences[i].position;
        if (left == 0) continue;
        all_done = false;
        if (random() % 4 == 0) continue;
        const auto size = std::min<int32_t>(
            left, 1 + static_cast<int32_t>(random() % static_cast<uint64_t>(max_chunk)));
        const auto first = static_cast<int32_t>(random() % static_cast<uint64_t>(size + 1));
        for (int32_t t = first; t < size; ++t) rows.emplace_back(i, sequences[i].position + t);
        chunks.push_back(
            {&sequences[i],
             std::span(prompts_[i])
                 .subspan(static_cast<size_t>(sequences[i].position), static_cast<size_t>(size)),
             first});
      }
      if (all_done) break;
      const Logits& logits = runner.Step(chunks);
      ASSERT_EQ(logits.num_rows, static_cast<int32_t>(rows.size()));
      for (size_t r = 0; r < rows.size(); ++r) {
        const auto [prompt, position] = rows[r];
        ASSERT_TRUE(SameBits(logits.Row(static_cast<int32_t>(r)), expected_[prompt].Row(position)))
            << "prompt " << prompt << " position " << position;
      }
    }
  }

  static constexpr uint64_t kSeed = 20240917;
  static constexpr int32_t kNumBlocks = 128;
  std::unique_ptr<Model> one_thread_;
  std::vector<std::vector<TokenId>> prompts_;
  std::vector<Logits> expected_;  // each prompt alone, in one step
};

TEST_P(BatchInvarianceTest, TokenByTokenEqualsWholePrompt) {
  for (size_t i = 0; i < prompts_.size(); ++i) {
    PagedRunner runner(one_thread_.get(), kNumBlocks, i);
    PagedRunner::Sequence sequence;
    for (size_t t = 0; t < prompts_[i].size(); ++t) {
      const Logits& logits = runner.Step({{&sequence, std::span(&prompts_[i][t], 1)}});
      ASSERT_TRUE(SameBits(logits.Row(0), expected_[i].Row(static_cast<int32_t>(t))))
          << "prompt " << i << " position " << t;
    }
  }
}

TEST_P(BatchInvarianceTest, RandomChunksInMixedBatchesEqualWholePrompt) {
  for (uint64_t round = 0; round < 6; ++round) {
    RunMixed(one_thread_.get(), kSeed + round, round % 2 == 0 ? 40 : 7);
  }
}

TEST_P(BatchInvarianceTest, AnyNumberOfThreadsGivesTheSameBits) {
  for (const int32_t threads : {2, 3}) {
    const auto model = Load(threads, 16);
    RunMixed(model.get(), kSeed, 200);
    RunMixed(model.get(), kSeed + 1, 5);
  }
}

TEST_P(BatchInvarianceTest, AnyBlockSizeGivesTheSameBits) {
  for (const int32_t block_size : {8, 32, 128}) {
    const auto model = Load(1, block_size);
    RunMixed(model.get(), kSeed, 50);
  }
}

// A prefix hit: the second sequence reads the first one's blocks for their common tokens.
TEST_P(BatchInvarianceTest, SharedPrefixBlocksGiveTheSameBits) {
  PagedRunner runner(one_thread_.get(), kNumBlocks, kSeed);
  PagedRunner::Sequence first;
  runner.Step({{&first, prompts_[0]}});
  for (const int32_t shared_blocks : {1, 4, 9}) {
    PagedRunner::Sequence second;
    second.position = shared_blocks * 16;
    second.block_table.assign(first.block_table.begin(), first.block_table.begin() + shared_blocks);
    const auto rest = std::span(prompts_[0]).subspan(static_cast<size_t>(second.position));
    const Logits& logits = runner.Step({{&second, rest}});
    for (int32_t r = 0; r < logits.num_rows; ++r) {
      ASSERT_TRUE(SameBits(logits.Row(r), expected_[0].Row(shared_blocks * 16 + r)))
          << shared_blocks << " shared blocks, row " << r;
    }
  }
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const std::string& config : TinyModelNames()) {
    for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16}) {
      cases.push_back({config, isa, false});
    }
  }
  cases.push_back({TinyModelNames().front(), Isa::kAvx2, true});
  cases.push_back({TinyModelNames().front(), Isa::kAvx512, true});
  cases.push_back({TinyModelNames().front(), Isa::kAvx2, true, "", "int8"});
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16}) {
    cases.push_back({TinyModelNames().front(), isa, false, "int8"});
    cases.push_back({TinyModelNames().back(), isa, false, "int4"});
    cases.push_back({TinyModelNames().front(), isa, false, "", "int8"});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, BatchInvarianceTest, testing::ValuesIn(Cases()),
                         [](const testing::TestParamInfo<Case>& tested) {
                           std::string name =
                               tested.param.config + "_" + std::string(IsaName(tested.param.isa)) +
                               (tested.param.f32 ? "_f32" : "") + tested.param.weights +
                               (tested.param.kv_dtype.empty() ? ""
                                                              : "_kv_" + tested.param.kv_dtype);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace baton
