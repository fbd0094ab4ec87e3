#include "engine/model/cuda/cuda_device_staging.h"

#include <gtest/gtest.h>

#include <cuda_runtime.h>

#include <cstring>
#include <memory>
#include <vector>

#include "common/hash.h"
#include "engine/model/cuda/cuda_kv_cache.h"
#include "tests/unit/engine/model/cuda_model_harness.h"

namespace baton {
namespace {

constexpr uint64_t kSeed = 47;
constexpr int32_t kNumBlocks = 24;
constexpr int32_t kSlots = 11;  // more than there are streams
const KvLayout kLayout{.num_layers = 3, .num_kv_heads = 2, .head_dim = 8, .block_size = 4};

class CudaDeviceStagingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HasCudaDevice()) GTEST_SKIP() << "NOT_FOUND: no CUDA device";
    cache_ = MakeRandomCudaKvCache(kLayout, kNumBlocks, kSeed);
    auto staging = cache_->staging()->CreateOnDevice({.count = kSlots, .bytes = kSlotBytes});
    ASSERT_TRUE(staging.ok()) << staging.status();
    staging_ = *std::move(staging);
  }
  static size_t block_bytes() { return static_cast<size_t>(kLayout.BlockBytes()); }
  static std::vector<BlockId> Blocks(std::initializer_list<int32_t> ids) {
    return {ids.begin(), ids.end()};
  }
  std::byte* Slot(int index) { return staging_->memory().data() + index * kSlotBytes; }
  std::vector<std::byte> ReadSlot(int index, size_t bytes) {
    std::vector<std::byte> found(bytes);
    EXPECT_EQ(cudaMemcpy(found.data(), Slot(index), bytes, cudaMemcpyDeviceToHost), cudaSuccess);
    return found;
  }
  static std::vector<std::byte> Together(const std::vector<std::byte>& layer,
                                         const std::vector<BlockId>& blocks) {
    std::vector<std::byte> bytes;
    for (const BlockId block : blocks) {
      const auto from = layer.begin() + block.value() * kLayout.BlockBytes();
      bytes.insert(bytes.end(), from, from + kLayout.BlockBytes());
    }
    return bytes;
  }
  std::function<void(absl::Status)> Done(int* count) {
    return [count](absl::Status status) {
      EXPECT_TRUE(status.ok()) << status;
      ++*count;
    };
  }

  static constexpr int64_t kSlotBytes = 4096;
  std::unique_ptr<CudaKvCache> cache_;
  std::unique_ptr<KvDeviceStaging> staging_;
};

TEST_F(CudaDeviceStagingTest, BlocksComeTogetherWithTheirChecksum) {
  const std::vector<BlockId> blocks = Blocks({7, 8, 9, 2, 11, 0});
  const std::vector<std::byte> expected = Together(ReadLayer(cache_->region(), 1), blocks);
  int done = 0;
  staging_->CopyOut(1, blocks, Slot(3), Done(&done));
  EXPECT_FALSE(staging_->idle());
  while (!staging_->idle()) staging_->Progress();
  ASSERT_EQ(done, 1);
  EXPECT_EQ(ReadSlot(3, expected.size()), expected);
  EXPECT_EQ(staging_->ChecksumOf(Slot(3)), HashBytes(expected.data(), expected.size()));
}

TEST_F(CudaDeviceStagingTest, BlocksGoInWithTheirChecksumAndNothingElseIsWritten) {
  const std::vector<BlockId> blocks = Blocks({3, 1, 4, 5});
  std::vector<std::byte> expected = ReadLayer(cache_->region(), 2);
  std::vector<std::byte> bytes(blocks.size() * block_bytes());
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 256);
  ASSERT_EQ(cudaMemcpy(Slot(10), bytes.data(), bytes.size(), cudaMemcpyHostToDevice), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);  // else other streams may not see it yet
  int done = 0;
  staging_->CopyIn(2, Slot(10), blocks, Done(&done));
  staging_->Settle();
  ASSERT_EQ(done, 1);
  EXPECT_EQ(staging_->ChecksumOf(Slot(10)), HashBytes(bytes.data(), bytes.size()));
  for (size_t i = 0; i < blocks.size(); ++i) {
    std::memcpy(expected.data() + blocks[i].value() * kLayout.BlockBytes(),
                bytes.data() + i * block_bytes(), block_bytes());
  }
  EXPECT_EQ(ReadLayer(cache_->region(), 2), expected);
}

TEST_F(CudaDeviceStagingTest, CopiesOfAllSlotsAreUnderWayAtOnce) {
  const std::vector<std::byte> layer = ReadLayer(cache_->region(), 0);
  int done = 0;
  for (int i = 0; i < kSlots; ++i) {
    staging_->CopyOut(0, Blocks({i, i + 12}), Slot(i), Done(&done));
  }
  EXPECT_EQ(done, 0);
  staging_->Settle();
  ASSERT_EQ(done, kSlots);
  for (int i = 0; i < kSlots; ++i) {
    const std::vector<std::byte> expected = Together(layer, Blocks({i, i + 12}));
    EXPECT_EQ(ReadSlot(i, expected.size()), expected) << i;
    EXPECT_EQ(staging_->ChecksumOf(Slot(i)), HashBytes(expected.data(), expected.size())) << i;
  }
}

TEST_F(CudaDeviceStagingTest, DestroyingItEndsWhatIsUnderWay) {
  int done = 0;
  staging_->CopyOut(0, Blocks({5}), Slot(0), Done(&done));
  staging_.reset();
  EXPECT_EQ(done, 1);
}

TEST_F(CudaDeviceStagingTest, AnImpossibleAmountIsRefused) {
  EXPECT_EQ(cache_->staging()
                ->CreateOnDevice({.count = 1 << 30, .bytes = int64_t{1} << 30})
                .status()
                .code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace baton
