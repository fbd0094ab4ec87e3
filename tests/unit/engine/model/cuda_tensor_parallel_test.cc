// A model over several emulated devices against one. Each rank is a process; what it enqueues of a
// collective operation is done by the CPU's communicator.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/model/cuda/nccl_communicator.h"
#include "tests/unit/engine/model/cuda_model_harness.h"
#include "tests/unit/engine/parallel/rank_threads.h"

namespace baton {
namespace {

constexpr uint64_t kSeed = 20261122;
constexpr int32_t kNumBlocks = 64;
constexpr double kLogitTolerance = 0.02;  // as between CUDA and the CPU: bf16 between ops

// Heads, inputs and vocabulary that four ranks can share.
constexpr TinyModel kModels[] = {
    {"llama_gqa2", R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 72,
      "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 8,
      "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 160,
      "max_position_embeddings": 512})"},
    {"qwen3_tied", R"({"architectures": ["Qwen3ForCausalLM"], "hidden_size": 56,
      "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
      "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 96,
      "max_position_embeddings": 512, "tie_word_embeddings": true})"},
    {"llama_all_biases", R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 64,
      "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
      "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 64, "attention_bias": true,
      "mlp_bias": true, "max_position_embeddings": 512})"},
};

// Two ranks for each KV head where there are four, or two.
constexpr TinyModel kFewKvHeads[] = {
    {"llama_gqa4", R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 72,
      "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 8,
      "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 160,
      "max_position_embeddings": 512})"},
    {"qwen2_mqa", R"({"architectures": ["Qwen2ForCausalLM"], "hidden_size": 64,
      "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
      "num_key_value_heads": 1, "head_dim": 64, "vocab_size": 96,
      "max_position_embeddings": 512})"},
};

struct Answer {
  std::vector<Logits> steps;
  std::vector<int32_t> layers;  // that were done, in order
  uint64_t fingerprint = 0;
};

// Chunks of three prompts, then decode steps of all, which graphs fill up to four: the second step
// is captured, the third replayed.
Answer AnswerOf(const ModelOptions& options, const CudaModelOptions& cuda) {
  const std::unique_ptr<Model> model = LoadOnCuda(options, cuda);
  const auto cache = MakeCudaKvCache(*model, kNumBlocks);
  PagedRunner runner(model.get(), cache->region(), 1);
  std::mt19937_64 random(kSeed);
  const std::vector<TokenId> a = RandomTokens(70, *model, random);
  const std::vector<TokenId> b = RandomTokens(24, *model, random);
  const std::vector<TokenId> c = RandomTokens(9, *model, random);
  PagedRunner::Sequence first, second, third;
  Answer answer{.fingerprint = model->info().fingerprint};
  const auto step = [&](const std::vector<PagedRunner::Chunk>& chunks) {
    answer.steps.push_back(
        runner.Step(chunks, [&](int32_t layer) { answer.layers.push_back(layer); }));
  };
  const std::span<const TokenId> longer = a;
  const std::span<const TokenId> shorter = b;
  const std::span<const TokenId> shortest = c;
  step({{&first, longer.first(40), 30}, {&second, shorter.first(3)}});
  step({{&first, longer.subspan(40, 25)},
        {&second, shorter.subspan(3, 17), 17},
        {&third, shortest.first(5)}});
  for (size_t at = 0; at < 4; ++at) {
    step({{&first, longer.subspan(65 + at, 1)},
          {&second, shorter.subspan(20 + at, 1)},
          {&third, shortest.subspan(5 + at, 1)}});
  }
  return answer;
}

// Model, ranks, weights.
using Tested = std::tuple<TinyModel, int32_t, const char*>;

// Two prompts alone in a step each, then beside one another in chunks.
Answer AnswerTwice(const ModelOptions& options, const CudaModelOptions& cuda) {
  const std::unique_ptr<Model> model = LoadOnCuda(options, cuda);
  const auto cache = MakeCudaKvCache(*model, kNumBlocks);
  PagedRunner runner(model.get(), cache->region(), 1);
  std::mt19937_64 random(kSeed);
  const std::vector<TokenId> a = RandomTokens(70, *model, random);
  const std::vector<TokenId> b = RandomTokens(20, *model, random);
  const std::span<const TokenId> longer = a;
  const std::span<const TokenId> shorter = b;
  PagedRunner::Sequence sequences[4];
  Answer answer{.fingerprint = model->info().fingerprint};
  for (const std::vector<PagedRunner::Chunk>& chunks : std::vector<std::vector<PagedRunner::Chunk>>{
           {{&sequences[0], longer, 69}},
           {{&sequences[1], shorter, 19}},
           {{&sequences[2], longer.first(45), 45}, {&sequences[3], shorter.first(19), 19}},
           {{&sequences[2], longer.subspan(45, 24), 24}},
           {{&sequences[2], longer.last(1)}, {&sequences[3], shorter.last(1)}}}) {
    answer.steps.push_back(runner.Step(chunks));
  }
  return answer;
}

using AnswerFn = Answer(const ModelOptions&, const CudaModelOptions&);

class CudaTensorParallelTest : public testing::TestWithParam<Tested> {
 protected:
  ModelOptions OptionsOfRank(int32_t rank) const {
    ModelOptions options = options_;
    options.shard = {.rank = rank, .size = ranks_, .split = TensorSplit::kRows};
    options.connect = [this, rank] { return ConnectSharedMemory(group_.Map(), {.rank = rank}); };
    return options;
  }
  Answer AnswerOfRank(int32_t rank, AnswerFn answer_of, CudaModelOptions cuda) {
    if (!cuda.connect) cuda.connect = ConnectNccl;
    return answer_of(OptionsOfRank(rank), cuda);
  }
  absl::StatusOr<std::unique_ptr<CudaModel>> LoadOfRank(int32_t rank, CudaModelOptions cuda) {
    cuda.connect = ConnectNccl;
    return LoadCudaModel(OptionsOfRank(rank), cuda, nullptr);
  }

  // Of rank 0, which is this process.
  Answer AnswerOfRanks(AnswerFn answer_of = AnswerOf,
                       const CudaModelOptions& cuda = SmallLimits()) {
    std::vector<pid_t> others;
    for (int32_t rank = 1; rank < ranks_; ++rank) {
      others.push_back(fork());
      if (others.back() != 0) continue;
      bool silent = true;
      for (const Logits& logits : AnswerOfRank(rank, answer_of, cuda).steps) {
        silent &= logits.num_rows == 0;
      }
      _exit(silent ? 0 : 1);
    }
    Answer answer = AnswerOfRank(0, answer_of, cuda);
    for (const pid_t other : others) {
      int status = -1;
      EXPECT_EQ(waitpid(other, &status, 0), other);
      EXPECT_EQ(status, 0);
    }
    return answer;
  }

  const int32_t ranks_ = std::get<1>(GetParam());
  const TestGroup group_{ranks_};
  const ModelOptions options_ = {
      .path = DummyPath(std::get<0>(GetParam()).name, std::get<0>(GetParam()).config),
      .weights = std::get<2>(GetParam())};
};

TEST_P(CudaTensorParallelTest, LogitsAreNearlyThoseOfOneDevice) {
  const Answer alone = AnswerOf(options_, SmallLimits());
  const Answer answer = AnswerOfRanks();
  EXPECT_EQ(answer.layers, alone.layers);
  EXPECT_EQ(answer.fingerprint, alone.fingerprint) << "one may go on with the other's KV";
  ASSERT_EQ(answer.steps.size(), alone.steps.size());
  for (size_t i = 0; i < alone.steps.size(); ++i) {
    const Logits& expected = alone.steps[i];
    ASSERT_EQ(answer.steps[i].num_rows, expected.num_rows);
    for (int32_t row = 0; row < expected.num_rows; ++row) {
      EXPECT_LT(RelativeRms(answer.steps[i].Row(row), expected.Row(row)), kLogitTolerance)
          << "step " << i << " row " << row;
    }
  }
}

double Difference(const Answer& answer, const Answer& expected) {
  std::vector<float> found, wanted;
  for (size_t i = 0; i < expected.steps.size(); ++i) {
    const auto append = [](const std::vector<float>& values, std::vector<float>* all) {
      all->insert(all->end(), values.begin(), values.end());
    };
    append(answer.steps[i].values, &found);
    append(expected.steps[i].values, &wanted);
  }
  return RelativeRms(found, wanted);
}

class CudaFp8OnRanksTest : public CudaTensorParallelTest {};

// Each rank rounds its part of an input to e4m3 by a scale of its own: other roundings than on one
// device, but no coarser ones.
TEST_P(CudaFp8OnRanksTest, LogitsAreAsNearToThoseOfBf16AsOnOneDevice) {
  ModelOptions exact = options_;
  exact.weights = "";
  const Answer in_bf16 = AnswerOf(exact, SmallLimits());
  const double alone = Difference(AnswerOf(options_, SmallLimits()), in_bf16);
  const double of_ranks = Difference(AnswerOfRanks(), in_bf16);
  EXPECT_GT(alone, kLogitTolerance) << "rounds nothing: the test proves less";
  EXPECT_LT(of_ranks, 1.1 * alone);
}

// NCCL's, but that nothing is added.
class WithoutSums final : public CudaCommunicator {
 public:
  explicit WithoutSums(std::unique_ptr<CudaCommunicator> ranks) : ranks_(std::move(ranks)) {}

  void AllReduceSum(const CudaContext& context, float*, size_t) override {
    context.Note(absl::InternalError("a sum of more than two numbers in an order that nobody set"));
  }
  void AllGather(const CudaContext& context, const float* mine, float* all, size_t count) override {
    ranks_->AllGather(context, mine, all, count);
  }
  void Broadcast(const CudaContext& context, int32_t* numbers, size_t count) override {
    ranks_->Broadcast(context, numbers, count);
  }

 private:
  const std::unique_ptr<CudaCommunicator> ranks_;
};

class CudaInvariantRanksTest : public CudaTensorParallelTest {};

TEST_P(CudaInvariantRanksTest, ARowDependsOnItsOwnSequenceAloneBitForBit) {
  CudaModelOptions cuda = SmallLimits();
  cuda.batch_invariant = true;
  cuda.connect =
      [](const CudaContext& context,
         std::unique_ptr<Communicator> ranks) -> absl::StatusOr<std::unique_ptr<CudaCommunicator>> {
    const bool two = ranks->size() == 2;
    ASSIGN_OR_RETURN(std::unique_ptr<CudaCommunicator> group,
                     ConnectNccl(context, std::move(ranks)));
    if (two) return group;
    return std::make_unique<WithoutSums>(std::move(group));
  };
  const Answer answer = AnswerOfRanks(AnswerTwice, cuda);
  ASSERT_EQ(answer.steps.size(), 5);
  const Logits& together = answer.steps[4];
  ASSERT_EQ(together.num_rows, 2);
  for (const int32_t row : {0, 1}) {
    EXPECT_THAT(together.Row(row),
                testing::ElementsAreArray(answer.steps[static_cast<size_t>(row)].Row(0)))
        << row;
  }
  const uint64_t alone = AnswerTwice(options_, cuda).fingerprint;
  EXPECT_NE(answer.fingerprint, alone) << "whose sums have other bits";
}

TEST_P(CudaInvariantRanksTest, RanksThatComputeOtherwiseAreRefused) {
  const auto status_of = [&](int32_t rank) {
    CudaModelOptions cuda = SmallLimits();
    cuda.batch_invariant = rank != 1;
    return LoadOfRank(rank, cuda).status();
  };
  std::vector<pid_t> others;
  for (int32_t rank = 1; rank < ranks_; ++rank) {
    others.push_back(fork());
    if (others.back() != 0) continue;
    _exit(status_of(rank).code() == absl::StatusCode::kFailedPrecondition ? 0 : 1);
  }
  const absl::Status refused = status_of(0);
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << refused;
  EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("other files or settings"));
  for (const pid_t other : others) {
    int status = -1;
    EXPECT_EQ(waitpid(other, &status, 0), other);
    EXPECT_EQ(status, 0);
  }
}

std::string NameOf(const testing::TestParamInfo<Tested>& info) {
  return std::string(std::get<0>(info.param).name) + "_" + std::to_string(std::get<1>(info.param)) +
         std::get<2>(info.param);
}

INSTANTIATE_TEST_SUITE_P(OnTwo, CudaTensorParallelTest,
                         testing::Combine(testing::ValuesIn(kModels), testing::Values(2),
                                          testing::Values("", "int8")),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(OnFour, CudaTensorParallelTest,
                         testing::Combine(testing::Values(kModels[0], kFewKvHeads[0]),
                                          testing::Values(4), testing::Values("", "int4")),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(OneKvHead, CudaTensorParallelTest,
                         testing::Combine(testing::Values(kFewKvHeads[1]), testing::Values(2),
                                          testing::Values("")),
                         NameOf);

INSTANTIATE_TEST_SUITE_P(OnTwo, CudaInvariantRanksTest,
                         testing::Combine(testing::Values(kModels[0]), testing::Values(2),
                                          testing::Values("", "int8")),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(OnFour, CudaInvariantRanksTest,
                         testing::Combine(testing::Values(kModels[0], kFewKvHeads[0]),
                                          testing::Values(4), testing::Values("")),
                         NameOf);

INSTANTIATE_TEST_SUITE_P(OnTwo, CudaFp8OnRanksTest,
                         testing::Combine(testing::Values(kModels[2], kFewKvHeads[1]),
                                          testing::Values(2), testing::Values("fp8")),
                         NameOf);

TEST(CudaTensorParallel, RefusesWhatRanksCannotShare) {
  const auto refusal = [](int32_t ranks, const char* part, const char* instead) {
    std::string config = kModels[0].config;
    const size_t at = config.find(part);
    BATON_CHECK(at != std::string::npos) << part;
    ModelOptions options;
    options.path = DummyPath("refused", config.replace(at, std::string(part).size(), instead));
    options.shard = {.rank = 0, .size = ranks, .split = TensorSplit::kRows};
    return LoadCudaModel(options, SmallLimits(), nullptr).status();
  };
  const absl::Status vocab = refusal(4, "\"vocab_size\": 160", "\"vocab_size\": 152");
  EXPECT_EQ(vocab.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(vocab.message()),
              testing::HasSubstr("vocab_size is 152; on CUDA multiples of 32"));
  EXPECT_EQ(refusal(3, "Llama", "Llama").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refusal(2, "Llama", "Llama").message()),
              testing::HasSubstr("without the ways to join"));
  const absl::Status inputs =
      refusal(2, "\"intermediate_size\": 256", "\"intermediate_size\": 160");
  EXPECT_EQ(inputs.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(inputs.message()), testing::HasSubstr("must be multiples of 32"));
}

}  // namespace
}  // namespace baton
