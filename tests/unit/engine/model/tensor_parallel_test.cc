// A model that several ranks compute together answers as one process does.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/engine/model/paged_runner.h"
#include "tests/unit/engine/parallel/rank_threads.h"

namespace baton {
namespace {

// Nothing but the heads can be shared out evenly.
constexpr char kUntied[] = R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 70,
    "intermediate_size": 1090, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 40, "vocab_size": 301, "max_position_embeddings": 512})";
constexpr char kTiedWithBias[] = R"({"architectures": ["Qwen2ForCausalLM"], "hidden_size": 64,
    "intermediate_size": 102, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "vocab_size": 131, "max_position_embeddings": 512,
    "tie_word_embeddings": true})";
// By rows, whole groups of inputs.
constexpr char kEven[] = R"({"architectures": ["Qwen3ForCausalLM"], "hidden_size": 62,
    "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 77, "max_position_embeddings": 512,
    "attention_bias": true})";

// One KV head for all.
constexpr char kOneKvHead[] = R"({"architectures": ["Qwen2ForCausalLM"], "hidden_size": 66,
    "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 1, "head_dim": 64, "vocab_size": 101, "max_position_embeddings": 512})";

struct Case {
  const char* name;
  const char* config;
  int32_t ranks = 2;
  bool by_rows = false;
  bool f32 = false;
  const char* weights = "";
  const char* kv_dtype = "";
};

TensorSplit SplitOf(bool by_rows) { return by_rows ? TensorSplit::kRows : TensorSplit::kColumns; }

ModelOptions OptionsOf(const Case& test, const std::string& directory) {
  const std::string file = directory + "/config.json";
  std::ofstream(file) << test.config;
  ModelOptions options;
  options.path = "dummy:" + file;
  options.f32 = test.f32;
  options.weights = test.weights;
  options.kv_dtype = test.kv_dtype;
  return options;
}

constexpr uint64_t kSeed = 20261122;

// The logits of all tokens of two prompts in chunks, then of a step that decodes both.
std::vector<float> LogitsOf(Model* model) {
  std::mt19937_64 random(kSeed);
  std::vector<std::vector<TokenId>> prompts(2);
  for (size_t i = 0; i < prompts.size(); ++i) {
    for (size_t token = 0; token < 40 + 31 * i; ++token) {
      prompts[i].push_back(
          static_cast<TokenId>(random() % static_cast<uint64_t>(model->info().vocab_size)));
    }
  }
  PagedRunner runner(model, 64, kSeed);
  PagedRunner::Sequence first;
  PagedRunner::Sequence second;
  std::vector<float> all;
  const auto add = [&](const Logits& logits) {
    all.insert(all.end(), logits.values.begin(), logits.values.end());
  };
  const std::span<const TokenId> longer = prompts[1];
  add(runner.Step({{&first, prompts[0]}, {&second, longer.first(20), 20}}));
  add(runner.Step({{&second, longer.subspan(20)}}));
  const std::vector<TokenId> next = {1, 2};
  add(runner.Step({{&first, std::span(next).first(1)}, {&second, std::span(next).last(1)}}));
  return all;
}

class TensorParallelTest : public testing::TestWithParam<Case> {
 protected:
  // What rank 0 says.
  std::vector<float> LogitsOfGroup() {
    const TestGroup group(GetParam().ranks);
    const ModelOptions options = OptionsOf(GetParam(), directory_.path());
    std::vector<float> logits;
    RunRanks(GetParam().ranks, [&](int32_t rank) {
      ModelOptions mine = options;
      mine.shard = {.rank = rank, .size = GetParam().ranks, .split = SplitOf(GetParam().by_rows)};
      mine.connect = JoinIn(group, rank);
      auto model = Model::Load(mine, nullptr);
      ASSERT_TRUE(model.ok()) << model.status();
      const int32_t kv_heads = (*model)->info().num_kv_heads;
      EXPECT_EQ((*model)->kv_layout().num_kv_heads, std::max(1, kv_heads / GetParam().ranks));
      std::vector<float> said = LogitsOf(model->get());
      if (rank != 0) return;
      logits = std::move(said);
      fingerprint_ = (*model)->info().fingerprint;
      parameters_ = (*model)->info().num_parameters;
    });
    return logits;
  }

  const TestDirectory directory_;  // of the configuration
  uint64_t fingerprint_ = 0;
  int64_t parameters_ = 0;
};

TEST_P(TensorParallelTest, AnswersAsOneProcessDoes) {
  auto alone = Model::Load(OptionsOf(GetParam(), directory_.path()), nullptr);
  ASSERT_TRUE(alone.ok()) << alone.status();
  const std::vector<float> expected = LogitsOf(alone->get());
  const std::vector<float> logits = LogitsOfGroup();
  ASSERT_EQ(logits.size(), expected.size());
  EXPECT_EQ(parameters_, (*alone)->info().num_parameters);
  if (!GetParam().by_rows) {
    EXPECT_EQ(fingerprint_, (*alone)->info().fingerprint);
    for (size_t i = 0; i < logits.size(); ++i) {
      ASSERT_EQ(std::memcmp(&logits[i], &expected[i], sizeof(float)), 0)
          << "logit " << i << ": " << logits[i] << " and " << expected[i];
    }
    return;
  }
  EXPECT_NE(fingerprint_, (*alone)->info().fingerprint);
  double difference = 0;
  double size = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    difference += std::pow(double{logits[i]} - double{expected[i]}, 2);
    size += std::pow(double{expected[i]}, 2);
  }
  // f32 differs by the order of sums alone; bf16 by roundings of what follows them.
  EXPECT_LT(std::sqrt(difference / size), GetParam().f32 ? 1e-5 : 2e-2);
}

std::string NameOf(const testing::TestParamInfo<Case>& info) {
  const Case& test = info.param;
  std::string name = std::string(test.name) + "_" + std::to_string(test.ranks);
  if (test.by_rows) name += "_rows";
  if (test.f32) name += "_f32";
  return name + test.weights + (*test.kv_dtype != '\0' ? "_kv" : "");
}

INSTANTIATE_TEST_SUITE_P(
    Models, TensorParallelTest,
    testing::Values(
        Case{"untied", kUntied, 2}, Case{"untied", kUntied, 4},
        Case{"untied", kUntied, 4, false, true},
        Case{"untied", kUntied, 2, false, false, "int8", "int8"},
        Case{"untied", kUntied, 4, false, false, "int4"}, Case{"tied", kTiedWithBias, 2},
        Case{"tied", kTiedWithBias, 4}, Case{"tied", kTiedWithBias, 4, false, false, "int8"},
        Case{"even", kEven, 2}, Case{"even", kEven, 2, true}, Case{"even", kEven, 4, true, true},
        Case{"even", kEven, 2, true, true}, Case{"even", kEven, 4, true, false, "int8"},
        // More ranks than KV heads.
        Case{"untied", kUntied, 8}, Case{"untied", kUntied, 8, false, false, "int8", "int8"},
        Case{"one_kv_head", kOneKvHead, 2}, Case{"one_kv_head", kOneKvHead, 3, false, true},
        Case{"one_kv_head", kOneKvHead, 6, false, false, "int4"},
        Case{"even", kEven, 8, true, true},
        Case{"one_kv_head", kOneKvHead, 2, true, false, "int8"}),
    NameOf);

// As the query heads that attend to them: those of a rank attend to no other.
TEST(ModelShard, RanksHaveTheKvHeadsOfTheirQueryHeads) {
  constexpr int32_t kHeads = 24;
  for (const int32_t kv_heads : {1, 2, 4, 12}) {
    for (const int32_t size : {1, 2, 4, 12, 24}) {
      if (size > kv_heads ? size % kv_heads != 0 : kv_heads % size != 0) continue;
      for (int32_t rank = 0; rank < size; ++rank) {
        const ModelShard shard{.rank = rank, .size = size};
        const ShardRange heads = shard.Of(kHeads);
        const ShardRange kv = shard.OfKvHeads(kv_heads);
        const int32_t share = kHeads / kv_heads;
        EXPECT_EQ(kv.begin, heads.begin / share) << rank << " of " << size << ", " << kv_heads;
        EXPECT_EQ(kv.end, (heads.end - 1) / share + 1) << rank << " of " << size;
        EXPECT_EQ(kv.begin, rank / shard.KvCopies(kv_heads) * kv.count()) << "neighbours share";
      }
    }
  }
}

absl::Status LoadError(const char* config, int32_t ranks, bool by_rows) {
  const TestDirectory directory;
  const TestGroup group(ranks);
  ModelOptions options = OptionsOf({.name = "", .config = config}, directory.path());
  options.shard = {.rank = 1, .size = ranks, .split = SplitOf(by_rows)};
  options.connect = JoinIn(group, 1);
  return Model::Load(options, nullptr).status();
}

TEST(TensorParallel, RefusesWhatCannotBeSharedOut) {
  const absl::Status heads = LoadError(kUntied, 3, false);
  EXPECT_EQ(heads.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(heads.message(),
            "tensor_parallel is 3; the model's 8 heads and 4 KV heads can be shared by 1, 2, 4, 8");
  EXPECT_EQ(LoadError(kUntied, 16, false).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(LoadError(kUntied, 2, true).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace baton
