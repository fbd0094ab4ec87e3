// The contract of Model::Forward beside its numbers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <numeric>

#include "engine/kernels/op_times.h"
#include "tests/unit/engine/model/count_allocations.h"
#include "tests/unit/engine/model/paged_runner.h"
#include "tests/unit/engine/model/tiny_models.h"

namespace baton {
namespace {

using testing::HasSubstr;

class ForwardTest : public testing::Test {
 protected:
  ForwardTest() { model_ = Load(1); }
  static std::unique_ptr<Model> Load(int32_t num_threads, OpTimes* op_times = nullptr) {
    ModelOptions options;
    options.op_times = op_times;
    options.path = TinyModelPath("qwen2_window");
    options.num_threads = num_threads;
    auto model = Model::Load(options, nullptr);
    EXPECT_TRUE(model.ok()) << model.status();
    return *std::move(model);
  }
  std::unique_ptr<Model> model_;
  std::vector<TokenId> tokens_ = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18};
};

TEST_F(ForwardTest, LayerDoneComesOncePerLayerWhenItsKvIsFinal) {
  PagedRunner runner(model_.get(), 8, 1);
  const auto read_layer = [&](int32_t layer) {
    const std::byte* base = runner.region().layer_base[static_cast<size_t>(layer)];
    return std::vector<std::byte>(base, base + 8 * runner.region().layout.BlockBytes());
  };
  const std::vector<std::byte> before = read_layer(0);
  std::vector<int32_t> layers;
  std::vector<std::vector<std::byte>> seen;
  PagedRunner::Sequence sequence;
  runner.Step({{&sequence, tokens_}}, [&](int32_t layer) {
    layers.push_back(layer);
    seen.push_back(read_layer(layer));
  });
  EXPECT_THAT(layers, testing::ElementsAre(0, 1, 2));
  for (size_t i = 0; i < seen.size(); ++i) {
    EXPECT_NE(seen[i], before);
    EXPECT_EQ(seen[i], read_layer(static_cast<int32_t>(i))) << "layer " << i;
  }
}

TEST_F(ForwardTest, LogitsAreComputedOnlyForTheRowsAskedFor) {
  PagedRunner runner(model_.get(), 16, 1);
  PagedRunner::Sequence a;
  PagedRunner::Sequence b;
  PagedRunner::Sequence c;
  const auto all = static_cast<int32_t>(tokens_.size());
  EXPECT_EQ(runner.Step({{&a, tokens_, all}}).num_rows, 0);
  const Logits logits =
      runner.Step({{&b, tokens_, all - 2}, {&a, tokens_, all}, {&c, tokens_, all - 1}});
  EXPECT_EQ(logits.num_rows, 3);
  EXPECT_EQ(logits.values.size(), 3u * 130u);
  // c's last row is b's last row: the same sequence.
  EXPECT_TRUE(std::ranges::equal(logits.Row(1), logits.Row(2)));
  EXPECT_FALSE(std::ranges::equal(logits.Row(0), logits.Row(1)));
}

TEST_F(ForwardTest, AnEmptyBatchGivesNoRows) {
  PagedRunner runner(model_.get(), 1, 1);
  EXPECT_EQ(runner.Step({}).num_rows, 0);
}

TEST_F(ForwardTest, RefusesBadSequencesBeforeItWritesAnything) {
  auto cache = *KvCache::Create(model_->kv_layout(), 4);
  Logits logits;
  const std::vector<BlockId> table = {BlockId(0), BlockId(3)};
  const std::vector<BlockId> outside = {BlockId(0), BlockId(4)};
  const std::vector<BlockId> negative = {BlockId(-1), BlockId(0)};
  const std::vector<TokenId> big = {130};
  const std::vector<TokenId> below = {-1};
  struct Bad {
    ForwardSequence sequence;
    const char* what;
  };
  for (const Bad& bad : {
           Bad{{.tokens = {}, .block_table = table}, "no tokens"},
           Bad{{.tokens = tokens_, .start_position = -1, .block_table = table}, "positions -1"},
           Bad{{.tokens = tokens_, .start_position = 500, .block_table = table},
               "the model has 512"},
           Bad{{.tokens = tokens_, .start_position = 15, .block_table = table}, "need 3"},
           Bad{{.tokens = tokens_, .block_table = outside}, "block 4 of a pool of 4"},
           Bad{{.tokens = tokens_, .block_table = negative}, "block -1"},
           Bad{{.tokens = big, .block_table = table}, "token 130"},
           Bad{{.tokens = below, .block_table = table}, "token -1"},
           Bad{{.tokens = tokens_, .block_table = table, .draw = 0}, "18 tokens of one draw"},
           Bad{{.tokens = tokens_, .block_table = table, .first_logit_token = 19},
               "first_logit_token is 19"},
           Bad{{.tokens = tokens_, .block_table = table, .first_logit_token = -1},
               "first_logit_token is -1"},
       }) {
    const ForwardSequence good = {.tokens = tokens_, .block_table = table};
    const std::vector<ForwardSequence> batch = {good, bad.sequence};
    const absl::Status status = model_->Forward(batch, cache->region(), nullptr, &logits);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("sequence 1 of 2"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.what));
  }
  const std::byte* kv = cache->region().layer_base[0];
  EXPECT_TRUE(std::all_of(kv, kv + 4 * cache->layout().BlockBytes(),
                          [](std::byte b) { return b == std::byte{0}; }));
}

TEST_F(ForwardTest, RefusesDrawsThatOnlyADeviceKnows) {
  auto cache = *KvCache::Create(model_->kv_layout(), 4);
  const std::vector<BlockId> table = {BlockId(0)};
  const ForwardSequence drawn = {.tokens = {tokens_.data(), 1}, .block_table = table, .draw = 0};
  Logits logits;
  const absl::Status status =
      model_->Forward(std::span(&drawn, 1), cache->region(), nullptr, &logits);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no device's"));
}

TEST_F(ForwardTest, RefusesAnotherLayoutsCache) {
  KvLayout layout = model_->kv_layout();
  layout.block_size = 32;
  auto cache = *KvCache::Create(layout, 4);
  Logits logits;
  const absl::Status status = model_->Forward({}, cache->region(), nullptr, &logits);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
}

TEST_F(ForwardTest, AllocatesNothingAfterWarmUp) {
  for (const int32_t threads : {1, 2}) {
    const std::unique_ptr<Model> model = Load(threads);
    auto cache = *KvCache::Create(model->kv_layout(), 8);
    const std::vector<BlockId> table = {BlockId(0), BlockId(1)};
    const std::vector<BlockId> other = {BlockId(2), BlockId(3)};
    const std::vector<ForwardSequence> prefill = {{.tokens = tokens_, .block_table = table},
                                                  {.tokens = tokens_, .block_table = other}};
    const std::span<const TokenId> one(tokens_.data(), 1);
    const std::vector<ForwardSequence> decode = {
        {.tokens = one, .start_position = 18, .block_table = table},
        {.tokens = one, .start_position = 18, .block_table = other}};
    Logits logits;
    const LayerDoneFn layer_done = [](int32_t) {};
    const auto step = [&] {
      BATON_CHECK_OK(model->Forward(prefill, cache->region(), layer_done, &logits));
      BATON_CHECK_OK(model->Forward(decode, cache->region(), layer_done, &logits));
    };
    step();
    const int64_t before = AllocationCount();
    for (int i = 0; i < 20; ++i) step();
    EXPECT_EQ(AllocationCount(), before) << threads << " threads";
  }
}

TEST_F(ForwardTest, TimesOfOpsAreAddedUpAndLessThanThePass) {
  OpTimes times;
  const std::unique_ptr<Model> model = Load(2, &times);
  PagedRunner runner(model.get(), 8, 1);
  PagedRunner::Sequence sequence;
  const auto start = std::chrono::steady_clock::now();
  runner.Step({{&sequence, tokens_}});
  const std::chrono::duration<double> pass = std::chrono::steady_clock::now() - start;
  const double first = std::accumulate(times.seconds.begin(), times.seconds.end(), 0.0);
  for (size_t op = 0; op < kOpNames.size(); ++op) EXPECT_GT(times.seconds[op], 0) << kOpNames[op];
  EXPECT_LT(first, pass.count());
  PagedRunner::Sequence other;
  runner.Step({{&other, tokens_}});
  EXPECT_GT(std::accumulate(times.seconds.begin(), times.seconds.end(), 0.0), first);
}

TEST(KvCacheTest, IsZeroedAlignedAndLaidOutByLayer) {
  const KvLayout layout = {.num_layers = 3, .num_kv_heads = 2, .head_dim = 8, .block_size = 16};
  auto cache = *KvCache::Create(layout, 5);
  const KvRegion& region = cache->region();
  EXPECT_EQ(region.num_blocks, 5);
  ASSERT_EQ(region.layer_base.size(), 3u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(region.layer_base[0]) % 4096, 0u);
  EXPECT_EQ(region.layer_base[2] - region.layer_base[1], 5 * layout.BlockBytes());
  std::byte* last = region.Block(2, BlockId(4)) + layout.BlockBytes() - 1;
  EXPECT_EQ(*last, std::byte{0});
  *last = std::byte{1};
}

TEST(KvCacheTest, RefusesWhatTheMachineCannotHold) {
  const KvLayout layout = {
      .num_layers = 80, .num_kv_heads = 64, .head_dim = 256, .block_size = 256};
  for (const int32_t blocks : {1 << 20, 2147483647}) {
    const absl::Status status = KvCache::Create(layout, blocks).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(status.message()), HasSubstr("the machine has"));
  }
  EXPECT_EQ(KvCache::Create(layout, 0).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace baton
