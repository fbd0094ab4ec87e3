// KV that several devices have parts of. Only on the emulation, which has as many as are asked for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cuda_runtime.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "engine/model/cuda/cuda_kv_cache.h"
#include "engine/model/cuda/cuda_kv_staging.h"
#include "tests/unit/engine/model/cuda_model_harness.h"

namespace baton {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kSeed = 43;
constexpr int32_t kNumBlocks = 12;
const KvLayout kShard{.num_layers = 2, .num_kv_heads = 2, .head_dim = 8, .block_size = 4};
constexpr size_t kWhich = 2;  // keys, values

size_t ShardBytes() { return static_cast<size_t>(kShard.BlockBytes()); }
size_t HeadBytes() { return ShardBytes() / kWhich / static_cast<size_t>(kShard.num_kv_heads); }

std::vector<std::byte> RandomBytes(size_t count, std::mt19937_64& random) {
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = std::byte(random());
  return bytes;
}

void WriteLayer(const KvRegion& kv, int32_t layer, const std::vector<std::byte>& bytes) {
  BATON_CHECK(cudaMemcpy(kv.layer_base[static_cast<size_t>(layer)], bytes.data(), bytes.size(),
                         cudaMemcpyHostToDevice) == cudaSuccess);
}

using Layers = std::vector<std::vector<std::byte>>;  // one for each rank

struct Devices {
  int32_t ranks = 0;
  int32_t copies = 0;  // of each head
};

class CudaRankKvTest : public ::testing::TestWithParam<Devices> {
 protected:
  CudaRankKvTest() {
    cuda_emulation::UseDevices(ranks_);
    std::vector<CudaKvPart> parts;
    for (int32_t rank = 0; rank < ranks_; ++rank) {
      auto cache = CudaKvCache::Create(rank, kShard, kNumBlocks);
      BATON_CHECK(cache.ok()) << cache.status();
      parts.push_back((*cache)->part());
      caches_.push_back(*std::move(cache));
      for (int32_t layer = 0; layer < kShard.num_layers; ++layer) {
        WriteLayer(caches_.back()->region(), layer,
                   RandomBytes(kNumBlocks * ShardBytes(), random_));
      }
    }
    auto staging = CudaKvStagingFactory(parts, copies_).Create(kNumBlocks * WireBytes());
    BATON_CHECK(staging.ok()) << staging.status();
    staging_ = *std::move(staging);
  }
  ~CudaRankKvTest() override {
    staging_.reset();
    cuda_emulation::UseDevices(1);
  }

  size_t WireBytes() const { return static_cast<size_t>(ranks_ / copies_) * ShardBytes(); }
  // Head by head, as KvLayout says where one is, in the shards of copy `copy`.
  void ExpectSameHeads(const Layers& shards, size_t copy, int32_t block,
                       const std::byte* wire) const {
    const auto heads = static_cast<size_t>(kShard.num_kv_heads);
    const auto copies = static_cast<size_t>(copies_);
    const size_t all_heads = shards.size() / copies * heads;
    for (size_t which = 0; which < kWhich; ++which) {
      for (size_t head = 0; head < all_heads; ++head) {
        const std::byte* shard = shards[head / heads * copies + copy].data() +
                                 static_cast<size_t>(block) * ShardBytes() +
                                 (which * heads + head % heads) * HeadBytes();
        const std::byte* place = wire + (which * all_heads + head) * HeadBytes();
        EXPECT_EQ(std::memcmp(shard, place, HeadBytes()), 0)
            << "block " << block << (which == 0 ? " keys" : " values") << " of head " << head
            << " copy " << copy;
      }
    }
  }
  static std::vector<BlockId> Blocks(std::initializer_list<int32_t> ids) {
    return {ids.begin(), ids.end()};
  }
  Layers Read(int32_t layer) const {
    Layers layers;
    for (const auto& cache : caches_) layers.push_back(ReadLayer(cache->region(), layer));
    return layers;
  }
  std::function<void(absl::Status)> Keep() {
    return [this](absl::Status status) { ended_.push_back(std::move(status)); };
  }

  const int32_t ranks_ = GetParam().ranks;
  const int32_t copies_ = GetParam().copies;
  std::mt19937_64 random_{kSeed};
  std::vector<std::unique_ptr<CudaKvCache>> caches_;
  std::unique_ptr<KvStaging> staging_;
  std::vector<absl::Status> ended_;  // copies
};

TEST_P(CudaRankKvTest, BlocksComeOutWithTheHeadsOfAllRanks) {
  const std::vector<BlockId> blocks = Blocks({7, 8, 9, 2, 11, 0});
  staging_->CopyOut(1, blocks, staging_->memory().data() + WireBytes(), Keep());
  EXPECT_FALSE(staging_->idle());
  while (!staging_->idle()) staging_->Progress();
  ASSERT_EQ(ended_.size(), 1u);
  ASSERT_TRUE(ended_[0].ok()) << ended_[0];
  const Layers layers = Read(1);
  for (size_t i = 0; i < blocks.size(); ++i) {
    ExpectSameHeads(layers, 0, blocks[i].value(),
                    staging_->memory().data() + (i + 1) * WireBytes());
  }
}

TEST_P(CudaRankKvTest, BlocksGoInToAllRanksAndNothingElseIsWritten) {
  const Layers before = Read(0);
  const std::vector<BlockId> blocks = Blocks({3, 1, 4, 5});
  std::byte* from = staging_->memory().data() + 2 * WireBytes();
  const std::vector<std::byte> sent = RandomBytes(blocks.size() * WireBytes(), random_);
  std::memcpy(from, sent.data(), sent.size());
  staging_->CopyIn(0, from, blocks, Keep());
  staging_->Settle();
  ASSERT_EQ(ended_.size(), 1u);
  ASSERT_TRUE(ended_[0].ok()) << ended_[0];
  const Layers after = Read(0);
  for (size_t i = 0; i < blocks.size(); ++i) {
    for (size_t copy = 0; copy < static_cast<size_t>(copies_); ++copy) {
      ExpectSameHeads(after, copy, blocks[i].value(), sent.data() + i * WireBytes());
    }
  }
  for (size_t rank = 0; rank < after.size(); ++rank) {
    for (const size_t other : {0, 2, 6, 7, 8, 9, 10, 11}) {
      EXPECT_EQ(std::memcmp(after[rank].data() + other * ShardBytes(),
                            before[rank].data() + other * ShardBytes(), ShardBytes()),
                0)
          << "rank " << rank << " block " << other;
    }
  }
}

TEST_P(CudaRankKvTest, ManyCopiesAreUnderWayAndUseTheirEventsAgain) {
  for (int round = 0; round < 3; ++round) {
    ended_.clear();
    for (int32_t i = 0; i < kNumBlocks; ++i) {
      const BlockId block(i);
      staging_->CopyOut(0, {&block, 1},
                        staging_->memory().data() + static_cast<size_t>(i) * WireBytes(), Keep());
    }
    while (!staging_->idle()) staging_->Progress();
    EXPECT_THAT(ended_, testing::SizeIs(kNumBlocks));
    EXPECT_THAT(ended_, testing::Each(absl::OkStatus()));
  }
}

// Two runs on each device: whichever of them cannot be started, the copy fails once, and
// the next one does not.
TEST_P(CudaRankKvTest, APartThatCannotBeStartedFailsTheWholeCopy) {
  const std::vector<BlockId> blocks = Blocks({1, 2, 6});
  for (int failing = 0; failing < 2 * ranks_; ++failing) {
    for (const bool settle : {false, true}) {
      ended_.clear();
      cuda_emulation::FailACopyAfter(failing);
      staging_->CopyIn(1, staging_->memory().data(), blocks, Keep());
      EXPECT_TRUE(ended_.empty()) << "parts of it may still be under way";
      staging_->CopyOut(1, blocks, staging_->memory().data(), Keep());
      if (settle) {
        staging_->Settle();
      } else {
        while (!staging_->idle()) staging_->Progress();
      }
      ASSERT_EQ(ended_.size(), 2u);
      EXPECT_THAT(std::string(ended_[0].message()), HasSubstr("cudaErrorInvalidValue")) << failing;
      EXPECT_TRUE(ended_[1].ok()) << ended_[1];
    }
  }
}

// What a process has left in a copy's memory when it failed, no copy of it changes any more.
TEST_P(CudaRankKvTest, AFailedCopyWritesNothingAfterwards) {
  const std::vector<BlockId> blocks = Blocks({1, 2, 6});
  cuda_emulation::FailACopyAfter(ranks_ / copies_);  // some runs have been started
  staging_->CopyOut(0, blocks, staging_->memory().data(), Keep());
  while (!staging_->idle()) staging_->Progress();
  ASSERT_FALSE(ended_.at(0).ok());
  std::memset(staging_->memory().data(), 0x3c, blocks.size() * WireBytes());
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const std::vector<std::byte> left(blocks.size() * WireBytes(), std::byte{0x3c});
  EXPECT_EQ(std::memcmp(staging_->memory().data(), left.data(), left.size()), 0);
}

INSTANTIATE_TEST_SUITE_P(Devices, CudaRankKvTest,
                         testing::Values(Devices{3, 1}, Devices{4, 2}, Devices{3, 3}),
                         [](const auto& tested) {
                           return std::to_string(tested.param.ranks) + "_of_" +
                                  std::to_string(tested.param.copies) + "_copies";
                         });

TEST(CudaKvCacheOfAnotherProcess, IsReachedByItsHandle) {
  int told[2];
  int done[2];
  ASSERT_TRUE(pipe(told) == 0 && pipe(done) == 0);
  const size_t layer_bytes = kNumBlocks * ShardBytes();
  const pid_t owner = fork();
  if (owner == 0) {
    auto cache = CudaKvCache::Create(0, kShard, kNumBlocks);
    BATON_CHECK(cache.ok());
    // A neighbour in the same pages, which must not move with it.
    const auto neighbour = CudaKvCache::Create(0, kShard, 1);
    std::mt19937_64 random(kSeed);
    WriteLayer((*cache)->region(), 1, RandomBytes(layer_bytes, random));
    const auto handle = (*cache)->Share();
    BATON_CHECK(handle.ok() && *(*cache)->Share() == *handle);
    BATON_CHECK(write(told[1], handle->data(), handle->size()) ==
                static_cast<ssize_t>(handle->size()));
    char byte = 0;
    BATON_CHECK(read(done[0], &byte, 1) == 1);
    // What the other process has written.
    const std::vector<std::byte> layer = ReadLayer((*cache)->region(), 0);
    const std::vector<std::byte> clean = ReadLayer((*neighbour)->region(), 0);
    const bool right = layer == std::vector<std::byte>(layer_bytes, std::byte{0x6b}) &&
                       clean == std::vector<std::byte>(ShardBytes(), std::byte{0});
    _exit(right ? 0 : 1);
  }
  close(told[1]);  // so that the end of the other process is seen
  std::string handle(sizeof(cudaIpcMemHandle_t), '\0');
  ASSERT_EQ(read(told[0], handle.data(), handle.size()), static_cast<ssize_t>(handle.size()));
  {
    const auto cache = CudaKvCache::Attach(0, kShard, kNumBlocks, handle);
    ASSERT_TRUE(cache.ok()) << cache.status();
    std::mt19937_64 random(kSeed);
    EXPECT_EQ(ReadLayer((*cache)->region(), 1), RandomBytes(layer_bytes, random));
    WriteLayer((*cache)->region(), 0, std::vector<std::byte>(layer_bytes, std::byte{0x6b}));
  }
  ASSERT_EQ(write(done[1], "x", 1), 1);
  int status = -1;
  ASSERT_EQ(waitpid(owner, &status, 0), owner);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(CudaKvCache::Attach(0, kShard, kNumBlocks, handle).status().code(),
            absl::StatusCode::kInternal)
      << "its owner has gone";
  EXPECT_EQ(CudaKvCache::Attach(0, kShard, kNumBlocks, "no handle").status().code(),
            absl::StatusCode::kInvalidArgument);
  for (const int fd : {told[0], done[0], done[1]}) close(fd);
}

}  // namespace
}  // namespace baton
