#include "engine/model/cuda/cuda_kv_staging.h"

#include <gtest/gtest.h>

#include <cuda_runtime.h>

#include <cstring>
#include <memory>
#include <vector>

#include "engine/model/cuda/cuda_kv_cache.h"
#include "tests/unit/engine/model/cuda_model_harness.h"

namespace baton {
namespace {

constexpr uint64_t kSeed = 41;
constexpr int32_t kNumBlocks = 12;
const KvLayout kLayout{.num_layers = 3, .num_kv_heads = 2, .head_dim = 8, .block_size = 4};

class CudaKvStagingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HasCudaDevice()) GTEST_SKIP() << "NOT_FOUND: no CUDA device";
    cache_ = MakeRandomCudaKvCache(kLayout, kNumBlocks, kSeed);
    auto staging = cache_->staging()->Create(kNumBlocks * block_bytes());
    ASSERT_TRUE(staging.ok()) << staging.status();
    staging_ = *std::move(staging);
  }
  static size_t block_bytes() { return static_cast<size_t>(kLayout.BlockBytes()); }
  static std::vector<BlockId> Blocks(std::initializer_list<int32_t> ids) {
    return {ids.begin(), ids.end()};
  }
  void ExpectBlock(const std::vector<std::byte>& layer, int32_t block, const std::byte* expected) {
    EXPECT_EQ(std::memcmp(layer.data() + static_cast<size_t>(block) * block_bytes(), expected,
                          block_bytes()),
              0)
        << "block " << block;
  }
  std::function<void(absl::Status)> Done(int* count) {
    return [count](absl::Status status) {
      EXPECT_TRUE(status.ok()) << status;
      ++*count;
    };
  }

  std::unique_ptr<CudaKvCache> cache_;
  std::unique_ptr<KvStaging> staging_;
};

TEST_F(CudaKvStagingTest, BlocksComeOutInTheOrderAsked) {
  const std::vector<BlockId> blocks = Blocks({7, 8, 9, 2, 11, 0});
  const std::vector<std::byte> layer = ReadLayer(cache_->region(), 1);
  int done = 0;
  staging_->CopyOut(1, blocks, staging_->memory().data(), Done(&done));
  EXPECT_FALSE(staging_->idle());
  while (!staging_->idle()) staging_->Progress();
  ASSERT_EQ(done, 1);
  for (size_t i = 0; i < blocks.size(); ++i) {
    ExpectBlock(layer, blocks[i].value(), staging_->memory().data() + i * block_bytes());
  }
}

TEST_F(CudaKvStagingTest, BlocksGoInAndNothingElseIsWritten) {
  const std::vector<BlockId> blocks = Blocks({3, 1, 4, 5});
  const std::vector<std::byte> before = ReadLayer(cache_->region(), 2);
  std::byte* from = staging_->memory().data() + block_bytes();
  std::memset(from, 0x5a, blocks.size() * block_bytes());
  std::memset(from, 0x77, block_bytes());  // block 3
  int done = 0;
  staging_->CopyIn(2, from, blocks, Done(&done));
  staging_->Settle();
  ASSERT_EQ(done, 1);
  const std::vector<std::byte> after = ReadLayer(cache_->region(), 2);
  for (size_t i = 0; i < blocks.size(); ++i) {
    ExpectBlock(after, blocks[i].value(), from + i * block_bytes());
  }
  for (const int32_t other : {0, 2, 6, 7, 8, 9, 10, 11}) {
    ExpectBlock(after, other, before.data() + static_cast<size_t>(other) * block_bytes());
  }
}

TEST_F(CudaKvStagingTest, ManyCopiesAreUnderWayAndEndInOrder) {
  std::vector<int> order;
  for (int i = 0; i < kNumBlocks; ++i) {
    const BlockId block(i);
    staging_->CopyOut(0, {&block, 1},
                      staging_->memory().data() + static_cast<size_t>(i) * block_bytes(),
                      [&order, i](absl::Status status) {
                        EXPECT_TRUE(status.ok()) << status;
                        order.push_back(i);
                      });
  }
  staging_.reset();  // settles
  ASSERT_EQ(order.size(), static_cast<size_t>(kNumBlocks));
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_F(CudaKvStagingTest, AnImpossibleAmountIsRefused) {
  EXPECT_EQ(cache_->staging()->Create(size_t{1} << 60).status().code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace baton
