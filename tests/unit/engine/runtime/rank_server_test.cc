// An engine whose model several ranks compute, against one of one process. The ranks are threads.
#include "engine/runtime/rank_server.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/runtime/engine.h"
#include "tests/support/source_dir.h"
#include "tests/unit/engine/parallel/rank_threads.h"

namespace baton {
namespace {

EngineOptions Options() {
  EngineOptions options;
  options.model.path = SourceDir() + "/models/demo";
  options.num_blocks = 40;  // so few that sequences are preempted
  options.scheduler.max_batch_tokens = 64;
  options.scheduler.prefill_chunk_tokens = 48;
  return options;
}

GenerationSpec Spec(int32_t length, int32_t samples, uint64_t seed) {
  GenerationSpec spec;
  for (int32_t i = 0; i < length; ++i) spec.tokens.push_back((i * 31 + 5 + length) % 2048);
  spec.prompt_length = length;
  spec.num_samples = samples;
  spec.sampling.seed = seed;
  spec.sampling.temperature = 0.8f;
  spec.stopping.max_tokens = 60;
  spec.stopping.ignore_eos = true;
  return spec;
}

// All tokens in the order in which they came: several prompts, one of which forks in the middle of
// a block, so that blocks are copied.
std::vector<TokenId> Answer(Engine& engine) {
  for (int32_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(engine.scheduler()
                    .Add(Spec(50 + 37 * i, i == 1 ? 3 : 1, static_cast<uint64_t>(i)),
                         SequenceMode::kGenerate)
                    .ok());
  }
  std::vector<TokenId> tokens;
  while (engine.scheduler().HasWork()) {
    auto result = engine.Step(nullptr);
    BATON_CHECK(result.ok()) << result.status().ToString();
    for (const SequenceEvent& event : result->events) {
      const auto* token = std::get_if<SequenceEvent::Token>(&event.what);
      if (token != nullptr) tokens.push_back(token->output.token);
    }
  }
  return tokens;
}

std::string BytesOf(const KvRegion& kv) {
  std::string bytes;
  for (const std::byte* layer : kv.layer_base) {
    bytes.append(reinterpret_cast<const char*>(layer),
                 static_cast<size_t>(kv.num_blocks * kv.layout.BlockBytes()));
  }
  return bytes;
}

class Ranks {
 public:
  explicit Ranks(const ModelOptions& options, int32_t size) : group(size) {
    for (int32_t rank = 1; rank < size; ++rank) {
      int channel[2];
      BATON_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, channel) == 0);
      const int kv_fd = memfd_create("kv", 0);
      BATON_CHECK(kv_fd >= 0);
      links.push_back({.channel_fd = channel[0], .kv_fd = dup(kv_fd)});
      EngineOptions mine{.model = options};
      mine.model.shard = {.rank = rank, .size = size};
      mine.model.connect = JoinIn(group, rank);
      threads_.emplace_back([mine, link = RankLink{channel[1], kv_fd}] {
        const absl::Status status = ServeRank(mine, link);
        EXPECT_TRUE(status.ok()) << status;
      });
    }
  }
  ~Ranks() {
    for (std::thread& thread : threads_) thread.join();
  }

  const TestGroup group;
  std::vector<RankLink> links;

 private:
  std::vector<std::thread> threads_;
};

// Two have a KV head each, four the half of one's work.
TEST(RankServer, AnEngineOfSeveralRanksAnswersAsOneOfOneProcess) {
  std::vector<TokenId> expected;
  {
    auto engine = Engine::Load(Options(), nullptr);
    ASSERT_TRUE(engine.ok()) << engine.status();
    expected = Answer(**engine);
  }
  ASSERT_GT(expected.size(), 300u);
  for (const int32_t size : {2, 4}) {
    Ranks ranks(Options().model, size);
    EngineOptions options = Options();
    options.model.shard.size = size;
    options.model.connect = JoinIn(ranks.group, 0);
    options.ranks = ranks.links;
    auto engine = Engine::Load(options, nullptr);
    ASSERT_TRUE(engine.ok()) << engine.status();
    const KvMemory& kv = (*engine)->kv_memory();
    EXPECT_EQ(kv.regions.size(), static_cast<size_t>(size));
    EXPECT_EQ(kv.layout.num_kv_heads, 2);
    EXPECT_EQ(kv.copies, size / 2);
    EXPECT_EQ(Answer(**engine), expected) << size << " ranks";
    for (int32_t rank = 1; rank < kv.copies; ++rank) {
      EXPECT_EQ(BytesOf(kv.regions[static_cast<size_t>(rank)]), BytesOf(kv.regions[0]));
    }
    engine->reset();  // the ranks end with it
  }
}

TEST(RankServer, CopiesOfHeadsTakeTheirPartOfTheMemory) {
  const auto blocks = [](int32_t size) {
    Ranks ranks(Options().model, size);
    EngineOptions options = Options();
    options.num_blocks = 0;
    options.kv_memory_bytes = int64_t{8} << 20;
    options.model.shard.size = size;
    options.model.connect = JoinIn(ranks.group, 0);
    options.ranks = ranks.links;
    const auto engine = Engine::Load(options, nullptr);
    BATON_CHECK(engine.ok()) << engine.status().ToString();
    return (*engine)->kv_memory().num_blocks;
  };
  EXPECT_EQ(blocks(2), 2 * blocks(4));
}

// A device that is broken, or whatever else a test makes of it.
class FakeModel final : public Model {
 public:
  explicit FakeModel(absl::Status health) : health_(std::move(health)) {}
  const ModelInfo& info() const override { return info_; }
  KvLayout kv_layout() const override { return {}; }
  absl::Status Forward(std::span<const ForwardSequence>, const KvRegion&, const LayerDoneFn&,
                       Logits*) override {
    return absl::OkStatus();
  }
  absl::Status Health() override { return health_; }

 private:
  const ModelInfo info_;
  const absl::Status health_;
};

TEST(RankServer, ARankThatIsToldNothingEndsWhenItsDeviceBreaks) {
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  const RankChannel rank0(channel[0]);
  RankChannel rank(channel[1]);
  const absl::Status broken = absl::InternalError("device: cudaErrorLaunchFailure");
  EXPECT_EQ(ServeRankOf({.model = std::make_unique<FakeModel>(broken)}, &rank), broken);
}

TEST(RankServer, WhatARankCannotDoIsToldBeforeItEnds) {
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  LeadingModel leading(std::make_unique<FakeModel>(absl::OkStatus()),
                       {{.channel_fd = channel[0], .kv_fd = -1}});
  std::thread served([fd = channel[1]] {
    RankChannel rank(fd);
    RankParts parts{.model = std::make_unique<FakeModel>(absl::OkStatus())};
    parts.count_room = [] { return 7; };
    parts.make_pool = [](int32_t num_blocks) -> absl::StatusOr<RankParts::Pool> {
      return absl::ResourceExhaustedError(absl::StrCat(num_blocks, " KV blocks are too many"));
    };
    EXPECT_EQ(ServeRankOf(std::move(parts), &rank).code(), absl::StatusCode::kResourceExhausted);
  });
  EXPECT_EQ(*leading.CountRoom(), 7);
  const absl::Status refused = leading.CreatePools(9, nullptr).status();
  EXPECT_EQ(refused, absl::ResourceExhaustedError("rank 1: 9 KV blocks are too many"));
  served.join();
}

}  // namespace
}  // namespace baton
