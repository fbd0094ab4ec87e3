// An engine over two emulated devices, or four: the ranks after the first are processes of their
// own, whose KV rank 0 reaches.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/kv_staging.h"
#include "engine/runtime/cuda/cuda_engine.h"
#include "engine/runtime/rank_server.h"
#include "tests/unit/engine/model/cuda_model_harness.h"
#include "tests/unit/engine/parallel/rank_threads.h"
#include "tests/unit/engine/runtime/engine_answers.h"

namespace baton {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kMostRanks = 4;
constexpr int32_t kNumBlocks = 24;
// Heads and inputs that so many can share.
constexpr char kConfig[] = R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 72,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 160, "max_position_embeddings": 512})";

// Both ranks have the same KV head.
constexpr char kOneKvHead[] = R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 72,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 1, "head_dim": 64, "vocab_size": 160, "max_position_embeddings": 512})";

EngineOptions Options(const char* config = kConfig) {
  EngineOptions options;
  options.model.path = DummyPath(config == kConfig ? "two_ranks" : "one_kv_head", config);
  options.model.block_size = 8;
  options.num_blocks = kNumBlocks;
  options.tune_products = false;  // it takes most of a start here
  options.scheduler.max_batch_tokens = 32;
  options.scheduler.max_batch_sequences = 4;
  return options;
}

// The ranks after the first as child processes, and what rank 0 is loaded with.
class Ranks {
 public:
  // `of_others`: their options, where they differ.
  Ranks(const EngineOptions& options, const EngineOptions& of_others, int32_t count = 2)
      : count_(count), group_(count), options_(options) {
    for (int32_t rank = 1; rank < count; ++rank) Start(rank, of_others);
    Join(0, &options_);
  }
  Ranks(const Ranks&) = delete;
  // How the others ended.
  ~Ranks() {
    for (const pid_t child : children_) {
      int status = -1;
      BATON_CHECK(waitpid(child, &status, 0) == child);
      EXPECT_EQ(status, 0);
    }
  }

  absl::StatusOr<std::unique_ptr<Engine>> Load() { return LoadCudaEngine(options_, nullptr); }

 private:
  void Start(int32_t rank, EngineOptions options) {
    int channel[2];
    BATON_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) == 0);
    const pid_t child = fork();
    if (child == 0) {
      close(channel[0]);
      for (const RankLink& other : options_.ranks) close(other.channel_fd);
      Join(rank, &options);
      const absl::Status status = ServeCudaRank(options, {.channel_fd = channel[1]});
      _exit(status.ok() ? 0 : 1);
    }
    close(channel[1]);
    children_.push_back(child);
    options_.ranks.push_back({.channel_fd = channel[0]});
  }
  void Join(int32_t rank, EngineOptions* options) const {
    options->model.shard = {.rank = rank, .size = count_, .split = TensorSplit::kRows};
    options->model.connect = [this, rank] {
      return ConnectSharedMemory(group_.Map(), {.rank = rank});
    };
  }

  const int32_t count_;
  const TestGroup group_;
  EngineOptions options_;
  std::vector<pid_t> children_;
};

class CudaRankEngineTest : public ::testing::Test {
 protected:
  CudaRankEngineTest() { cuda_emulation::UseDevices(kMostRanks); }
  ~CudaRankEngineTest() override { cuda_emulation::UseDevices(1); }
};

// Copies through a slot on rank 0's device, or pinned memory, and waits.
absl::Status CopyOut(KvStaging& staging, const std::vector<BlockId>& blocks) {
  absl::Status copied = absl::UnknownError("not done");
  staging.CopyOut(0, blocks, staging.memory().data(),
                  [&](absl::Status status) { copied = std::move(status); });
  staging.Settle();
  return copied;
}
absl::Status CopyIn(KvStaging& staging, const std::vector<BlockId>& blocks) {
  absl::Status copied = absl::UnknownError("not done");
  staging.CopyIn(0, staging.memory().data(), blocks,
                 [&](absl::Status status) { copied = std::move(status); });
  staging.Settle();
  return copied;
}
constexpr KvSlots kOneSlot = {.count = 1, .bytes = 1 << 20};

// Computes a prompt and a token, and returns the first layer's KV of its blocks as the wire has it.
std::string FirstLayerOfAPrompt(Engine& engine) {
  GenerationSpec spec;
  for (int32_t i = 0; i < 20; ++i) spec.tokens.push_back((i * 31 + 5) % 160);
  spec.prompt_length = 20;
  spec.stopping.max_tokens = 2;
  spec.stopping.ignore_eos = true;
  const auto id = engine.scheduler().Add(spec, SequenceMode::kGenerate);
  BATON_CHECK(id.ok()) << id.status();
  std::vector<BlockId> blocks;
  int32_t layers = 0;
  const auto result = engine.Step([&](int32_t, const StepPlan& plan) {
    ++layers;
    blocks.assign(plan.rows[0].block_table.begin(), plan.rows[0].block_table.end());
  });
  BATON_CHECK(result.ok()) << result.status();
  EXPECT_EQ(layers, engine.model().num_layers);
  EXPECT_FALSE(result->events.empty()) << "drawn on the device";
  const auto bytes = blocks.size() * static_cast<size_t>(engine.kv_memory().layout.BlockBytes());
  const auto slot = engine.kv_memory().staging->CreateOnDevice(kOneSlot);
  BATON_CHECK(slot.ok()) << slot.status();
  EXPECT_EQ(CopyOut(**slot, blocks), absl::OkStatus());
  std::string direct(bytes, '\0');
  BATON_CHECK(cudaMemcpy(direct.data(), (*slot)->memory().data(), bytes, cudaMemcpyDeviceToHost) ==
              cudaSuccess);
  const auto staging = engine.kv_memory().staging->Create(1 << 20);
  BATON_CHECK(staging.ok()) << staging.status();
  EXPECT_EQ(CopyOut(**staging, blocks), absl::OkStatus());
  EXPECT_TRUE(std::memcmp((*staging)->memory().data(), direct.data(), bytes) == 0);
  while (engine.scheduler().HasWork()) BATON_CHECK(engine.Step(nullptr).ok());
  return direct;
}

// Of one rank, as it lies there.
std::string FirstLayerOf(const KvRegion& kv) {
  const std::vector<std::byte> bytes = ReadLayer(kv, 0);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST_F(CudaRankEngineTest, KvOfTheFirstLayerIsThatOfOneDevice) {
  for (const char* config : {kConfig, kOneKvHead}) {
    std::string of_two;
    {
      Ranks ranks(Options(config), Options(config));
      auto engine = ranks.Load();
      ASSERT_TRUE(engine.ok()) << engine.status();
      const KvMemory& kv = (*engine)->kv_memory();
      EXPECT_EQ(kv.regions.size(), 2u);
      EXPECT_EQ(kv.copies, config == kOneKvHead ? 2 : 1);
      of_two = FirstLayerOfAPrompt(**engine);
      if (kv.copies > 1) {
        EXPECT_EQ(FirstLayerOf(kv.regions[1]), FirstLayerOf(kv.regions[0]));
      }
      EXPECT_TRUE((*engine)->Health().ok());
      engine->reset();  // the other rank ends with it
    }
    auto alone = LoadCudaEngine(Options(config), nullptr);
    ASSERT_TRUE(alone.ok()) << alone.status();
    EXPECT_EQ(FirstLayerOfAPrompt(**alone), of_two);
  }
}

// What has come for a head is in the memory of both ranks, as the next step finds it.
TEST_F(CudaRankEngineTest, KvThatComesForAHeadGoesToAllItsRanks) {
  Ranks ranks(Options(kOneKvHead), Options(kOneKvHead));
  auto engine = ranks.Load();
  ASSERT_TRUE(engine.ok()) << engine.status();
  const KvMemory& kv = (*engine)->kv_memory();
  EXPECT_EQ(kv.layout.num_kv_heads, 1);
  auto slot = kv.staging->CreateOnDevice(kOneSlot);
  ASSERT_TRUE(slot.ok()) << slot.status();
  const auto bytes = static_cast<size_t>(kv.layout.BlockBytes());
  std::string came(6 * bytes, '\0');
  for (size_t i = 0; i < came.size(); ++i) came[i] = static_cast<char>(i * 7 + i / 251);
  ASSERT_EQ(cudaMemcpy((*slot)->memory().data(), came.data(), 3 * bytes, cudaMemcpyHostToDevice),
            cudaSuccess);
  const std::vector<BlockId> blocks = {BlockId(4), BlockId(5), BlockId(2),
                                       BlockId(9), BlockId(1), BlockId(10)};
  EXPECT_EQ(CopyIn(**slot, {blocks.begin(), blocks.begin() + 3}), absl::OkStatus());
  slot->reset();
  auto staging = kv.staging->Create(1 << 20);
  ASSERT_TRUE(staging.ok()) << staging.status();
  std::memcpy((*staging)->memory().data(), came.data() + 3 * bytes, 3 * bytes);
  EXPECT_EQ(CopyIn(**staging, {blocks.begin() + 3, blocks.end()}), absl::OkStatus());
  staging->reset();
  for (const KvRegion& region : kv.regions) {
    const std::string layer = FirstLayerOf(region);
    for (size_t i = 0; i < blocks.size(); ++i) {
      EXPECT_EQ(layer.substr(static_cast<size_t>(blocks[i].value()) * bytes, bytes),
                came.substr(i * bytes, bytes));
    }
  }
  engine->reset();  // the other rank ends with it
}

TEST_F(CudaRankEngineTest, DevicesThatDoNotReachOneAnotherHandOverThroughTheHost) {
  cuda_emulation::UsePeers(false);
  Ranks ranks(Options(), Options());
  auto engine = ranks.Load();
  ASSERT_TRUE(engine.ok()) << engine.status();
  KvStagingFactory& staging = *(*engine)->kv_memory().staging;
  EXPECT_EQ(staging.device_memory().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(staging.CreateOnDevice(kOneSlot).status(), staging.device_memory().status());
  EXPECT_TRUE(staging.Create(1 << 20).ok());
  cuda_emulation::UsePeers(true);
  EXPECT_TRUE(staging.device_memory().ok());
}

std::vector<Answer> Answers(int32_t num_ranks, const EngineOptions& options,
                            const std::vector<GenerationSpec>& specs, int* ahead) {
  Ranks ranks(options, options, num_ranks);
  auto engine = ranks.Load();
  BATON_CHECK(engine.ok()) << engine.status();
  std::vector<Answer> answers = RunAll(**engine, specs, ahead);
  (*engine)->scheduler().CheckInvariants();
  engine->reset();  // the other ranks end with it
  return answers;
}

class CudaRanksAheadTest : public CudaRankEngineTest,
                           public ::testing::WithParamInterface<int32_t> {};
INSTANTIATE_TEST_SUITE_P(Ranks, CudaRanksAheadTest, ::testing::Values(2, kMostRanks));

// Whose tokens only rank 0's device has when the others' begin: with a sequence that a token ends,
// and steps that are no power of two of rows.
TEST_P(CudaRanksAheadTest, StepsThatStartAheadChangeNoBit) {
  EngineOptions options = Options();
  options.batch_invariant = true;  // else a row more may change bits
  std::vector<GenerationSpec> specs = {RandomSpec(5, 25, 1), RandomSpec(20, 20, 2),
                                       RandomSpec(17, 16, 3)};
  specs[0].sampling.temperature = 0;
  options.async_scheduling = false;
  int ahead = 0;
  const std::vector<TokenId> until_full = Answers(GetParam(), options, specs, &ahead)[1].samples[0];
  size_t stop = 10;  // the first that has not been drawn before
  while (std::ranges::count(std::span(until_full).first(stop), until_full[stop]) > 0) ++stop;
  ASSERT_LT(stop, until_full.size() - 1);
  specs[1].stopping.stop_token_ids = {until_full[stop]};
  const std::vector<Answer> in_turn = Answers(GetParam(), options, specs, &ahead);
  EXPECT_EQ(ahead, 0);
  EXPECT_EQ(in_turn[1].samples[0].size(), stop + 1);

  options.async_scheduling = true;
  EXPECT_EQ(Answers(GetParam(), options, specs, &ahead), in_turn);
  EXPECT_GT(ahead, 20);
}

// Bits do not depend on it either, and steps ahead begin with the graphs that it left.
TEST_F(CudaRankEngineTest, AWarmEngineCapturesNothingWhileItServes) {
  EngineOptions options = Options();
  options.batch_invariant = true;  // with steps ahead a row more may change bits
  options.scheduler.max_batch_sequences = 3;
  const std::vector<GenerationSpec> specs = {RandomSpec(5, 9, 1), RandomSpec(20, 6, 2),
                                             RandomSpec(17, 3, 3)};
  struct Run {
    std::vector<Answer> answers;
    int captures = 0;  // while it serves
    std::vector<std::string> notes;
  };
  const auto run = [&](int32_t num_ranks, bool warm_up) {
    Run made;
    options.warm_up = warm_up;
    options.model.note = [&](const LoadNote& note) { made.notes.push_back(note.event); };
    Ranks ranks(options, options, num_ranks);
    auto engine = ranks.Load();
    BATON_CHECK(engine.ok()) << engine.status();
    const int before = cuda_emulation::CountCaptures();
    int ahead = 0;
    made.answers = RunAll(**engine, specs, &ahead);
    made.captures = cuda_emulation::CountCaptures() - before;
    engine->reset();  // the other ranks end with it
    return made;
  };
  for (const int32_t num_ranks : {1, 2}) {
    const Run warm = run(num_ranks, true);
    const Run cold = run(num_ranks, false);
    EXPECT_EQ(warm.captures, 0);
    EXPECT_EQ(cold.captures, 3) << "of 1, 2 and 3 rows";
    EXPECT_EQ(warm.answers, cold.answers);
    EXPECT_EQ(warm.notes, std::vector<std::string>{"decode steps captured"});
    EXPECT_TRUE(cold.notes.empty());
  }
}

TEST_F(CudaRankEngineTest, AnEngineMayGoWhileAStepRunsAhead) {
  Ranks ranks(Options(), Options());
  auto engine = ranks.Load();
  ASSERT_TRUE(engine.ok()) << engine.status();
  const auto added = (*engine)->scheduler().Add(RandomSpec(5, 30, 1), SequenceMode::kGenerate);
  ASSERT_TRUE(added.ok()) << added.status();
  while (!(*engine)->scheduler().InStep()) {
    ASSERT_TRUE((*engine)->Step(nullptr, nullptr, /*may_run_ahead=*/true).ok());
  }
  engine->reset();  // the other rank ends with it
}

TEST_F(CudaRankEngineTest, BlocksAreAsManyAsTheDeviceWithTheLeastRoomHolds) {
  EngineOptions options = Options();
  options.num_blocks = 0;
  options.kv_memory_bytes = 0;
  options.device_memory_share = 0.02;
  EngineOptions less = options;
  less.device_memory_share = 0.0125;
  const auto blocks = [](const EngineOptions& mine, const EngineOptions& others) {
    Ranks ranks(mine, others);
    auto engine = ranks.Load();
    BATON_CHECK(engine.ok()) << engine.status();
    return (*engine)->kv_memory().num_blocks;
  };
  const int32_t with_room = blocks(options, options);
  const int32_t least = blocks(options, less);
  EXPECT_GT(with_room, 3 * least / 2);
  EXPECT_EQ(blocks(less, options), blocks(less, less));
}

TEST_F(CudaRankEngineTest, TooFewDevicesAreNamed) {
  EngineOptions options = Options();
  options.cuda_device = kMostRanks - 1;
  options.model.shard = {.rank = 0, .size = 2, .split = TensorSplit::kRows};
  options.ranks = {{}};
  const absl::Status status = LoadCudaEngine(options, nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("2 ranks from cuda:3 on need cuda:4; there are 4 CUDA devices"));
}

}  // namespace
}  // namespace baton
