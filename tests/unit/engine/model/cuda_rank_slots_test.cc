// KV that several devices have parts of, by way of slots on the first of them. Only on the
// emulation, which has as many as are asked for, and knows who reaches whom.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cuda_runtime.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "common/hash.h"
#include "engine/model/cuda/cuda_kv_cache.h"
#include "engine/model/cuda/cuda_kv_staging.h"
#include "tests/unit/engine/model/cuda_model_harness.h"

namespace baton {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kSeed = 53;
constexpr int32_t kNumBlocks = 24;
constexpr int32_t kSlots = 11;  // more than there are streams
const KvLayout kShard{.num_layers = 3, .num_kv_heads = 2, .head_dim = 8, .block_size = 4};

struct Devices {
  int32_t ranks = 0;
  int32_t copies = 0;  // of each head
};

// Beside the slots there is a staging of pinned memory, whose copies have tests of their own
// (cuda_rank_kv_test.cc): bytes have to be the same, both ways.
class CudaRankSlotsTest : public ::testing::TestWithParam<Devices> {
 protected:
  CudaRankSlotsTest() {
    cuda_emulation::UseDevices(ranks_);
    std::vector<CudaKvPart> parts;
    for (int32_t rank = 0; rank < ranks_; ++rank) {
      caches_.push_back(MakeRandomCudaKvCache(kShard, kNumBlocks, random_(), rank));
      parts.push_back(caches_.back()->part());
    }
    factory_ = std::make_unique<CudaKvStagingFactory>(parts, copies_);
  }
  void SetUp() override {
    auto slots = factory_->CreateOnDevice({.count = kSlots, .bytes = kSlotBytes});
    ASSERT_TRUE(slots.ok()) << slots.status();
    slots_ = *std::move(slots);
    auto pinned = factory_->Create(kNumBlocks * WireBytes());
    ASSERT_TRUE(pinned.ok()) << pinned.status();
    pinned_ = *std::move(pinned);
    UseFirstDevice();
  }
  ~CudaRankSlotsTest() override {
    slots_.reset();
    pinned_.reset();
    cuda_emulation::UsePeers(true);
    cuda_emulation::UseDevices(1);
  }

  size_t WireBytes() const {
    return static_cast<size_t>(ranks_ / copies_) * static_cast<size_t>(kShard.BlockBytes());
  }
  // As a thread does that has slots, and no pinned memory beside them.
  static void UseFirstDevice() { BATON_CHECK(cudaSetDevice(0) == cudaSuccess); }
  static std::vector<BlockId> Blocks(std::initializer_list<int32_t> ids) {
    return {ids.begin(), ids.end()};
  }
  std::byte* Slot(int index) { return slots_->memory().data() + index * kSlotBytes; }
  std::vector<std::byte> ReadSlot(int index, size_t bytes) {
    std::vector<std::byte> found(bytes);
    EXPECT_EQ(cudaMemcpy(found.data(), Slot(index), bytes, cudaMemcpyDeviceToHost), cudaSuccess);
    return found;
  }
  void ExpectInSlot(int index, const std::vector<std::byte>& wire) {
    EXPECT_EQ(ReadSlot(index, wire.size()), wire) << index;
    EXPECT_EQ(slots_->ChecksumOf(Slot(index)), HashBytes(wire.data(), wire.size())) << index;
  }
  // What pinned memory gets of them.
  std::vector<std::byte> OnTheWire(int32_t layer, const std::vector<BlockId>& blocks) {
    absl::Status copied = absl::UnknownError("not done");
    std::byte* begin = pinned_->memory().data();
    pinned_->CopyOut(layer, blocks, begin, [&](absl::Status status) { copied = status; });
    pinned_->Settle();
    EXPECT_TRUE(copied.ok()) << copied;
    UseFirstDevice();
    return {begin, begin + blocks.size() * WireBytes()};
  }
  std::vector<std::vector<std::byte>> Layers(int32_t layer) const {
    std::vector<std::vector<std::byte>> of_ranks;
    for (const auto& cache : caches_) of_ranks.push_back(ReadLayer(cache->region(), layer));
    return of_ranks;
  }
  std::function<void(absl::Status)> Keep() {
    return [this](absl::Status status) { ended_.push_back(std::move(status)); };
  }

  static constexpr int64_t kSlotBytes = 8192;
  const int32_t ranks_ = GetParam().ranks;
  const int32_t copies_ = GetParam().copies;
  std::mt19937_64 random_{kSeed};
  std::vector<std::unique_ptr<CudaKvCache>> caches_;
  std::unique_ptr<CudaKvStagingFactory> factory_;
  std::unique_ptr<KvDeviceStaging> slots_;
  std::unique_ptr<KvStaging> pinned_;
  std::vector<absl::Status> ended_;  // copies
};

TEST_P(CudaRankSlotsTest, BlocksOfAllDevicesComeTogetherWithTheirChecksum) {
  for (const auto& blocks : {Blocks({7, 8, 9, 2, 11, 0, 23}), Blocks({5})}) {
    const std::vector<std::byte> wire = OnTheWire(1, blocks);
    ended_.clear();
    slots_->CopyOut(1, blocks, Slot(3), Keep());
    EXPECT_FALSE(slots_->idle());
    while (!slots_->idle()) slots_->Progress();
    EXPECT_THAT(ended_, testing::ElementsAre(absl::OkStatus()));
    ExpectInSlot(3, wire);
  }
}

TEST_P(CudaRankSlotsTest, BlocksGoToAllDevicesAndNothingElseIsWritten) {
  const std::vector<BlockId> blocks = Blocks({3, 1, 4, 5, 22});
  std::vector<std::byte> came(blocks.size() * WireBytes());
  for (std::byte& byte : came) byte = std::byte(random_());
  const auto before = Layers(2);
  std::copy(came.begin(), came.end(), pinned_->memory().begin());
  pinned_->CopyIn(2, pinned_->memory().data(), blocks, Keep());
  pinned_->Settle();
  const auto expected = Layers(2);
  for (size_t rank = 0; rank < caches_.size(); ++rank) {
    EXPECT_NE(before[rank], expected[rank]) << rank;
    BATON_CHECK(cudaMemcpy(caches_[rank]->region().layer_base[2], before[rank].data(),
                           before[rank].size(), cudaMemcpyHostToDevice) == cudaSuccess);
  }
  UseFirstDevice();
  ASSERT_EQ(cudaMemcpy(Slot(10), came.data(), came.size(), cudaMemcpyHostToDevice), cudaSuccess);
  slots_->CopyIn(2, Slot(10), blocks, Keep());
  slots_->Settle();
  EXPECT_THAT(ended_, testing::ElementsAre(absl::OkStatus(), absl::OkStatus()));
  EXPECT_EQ(slots_->ChecksumOf(Slot(10)), HashBytes(came.data(), came.size()));
  EXPECT_EQ(Layers(2), expected);
}

TEST_P(CudaRankSlotsTest, CopiesOfAllSlotsAreUnderWayAtOnce) {
  for (int i = 0; i < kSlots; ++i) slots_->CopyOut(0, Blocks({i, i + 12}), Slot(i), Keep());
  EXPECT_TRUE(ended_.empty());
  slots_->Settle();
  EXPECT_THAT(ended_, testing::SizeIs(kSlots));
  EXPECT_THAT(ended_, testing::Each(absl::OkStatus()));
  for (int i = 0; i < kSlots; ++i) ExpectInSlot(i, OnTheWire(0, Blocks({i, i + 12})));
}

// Whichever of its kernels cannot be started, a copy fails once, and those of its stream before and
// after it do not; nothing writes to its slot afterwards.
TEST_P(CudaRankSlotsTest, ACopyThatCannotBeStartedFailsAlone) {
  const std::vector<BlockId> blocks = Blocks({1, 2, 6});
  constexpr int kOfOneStream = 8;  // slots from one to the next
  for (int failing = 0; failing < 3; ++failing) {
    for (const bool settle : {false, true}) {
      ended_.clear();
      slots_->CopyOut(1, blocks, Slot(0), Keep());
      cuda_emulation::FailALaunchAfter(failing);
      slots_->CopyOut(1, blocks, Slot(kOfOneStream), Keep());
      slots_->CopyIn(1, Slot(0), blocks, Keep());
      EXPECT_TRUE(ended_.empty()) << "a part of it may still be under way";
      if (settle) {
        slots_->Settle();
      } else {
        while (!slots_->idle()) slots_->Progress();
      }
      ASSERT_EQ(ended_.size(), 3u);
      EXPECT_TRUE(ended_[0].ok() && ended_[2].ok()) << ended_[0] << ended_[2];
      EXPECT_THAT(std::string(ended_[1].message()), HasSubstr("cudaErrorInvalidValue")) << failing;
      const std::vector<std::byte> mark(blocks.size() * WireBytes(), std::byte{0x3c});
      std::copy(mark.begin(), mark.end(), Slot(kOfOneStream));
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      EXPECT_EQ(ReadSlot(kOfOneStream, mark.size()), mark);
    }
  }
}

TEST_P(CudaRankSlotsTest, ATransportFindsTheDeviceOfTheSlotsCurrent) {
  slots_->CopyOut(0, Blocks({1}), Slot(0), Keep());
  EXPECT_TRUE(factory_->device_memory().ok());
  int current = -1;
  EXPECT_EQ(cudaGetDevice(&current), cudaSuccess);
  EXPECT_EQ(current, 0);
  slots_->Settle();
  EXPECT_EQ(cudaGetDevice(&current), cudaSuccess);
  EXPECT_EQ(current, 0);
}

TEST_P(CudaRankSlotsTest, DevicesThatDoNotReachOneAnotherHaveNoSlots) {
  cuda_emulation::UsePeers(false);
  const absl::Status status = factory_->device_memory().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("cuda:0 does not reach the memory of cuda:1, no peer access"),
                    HasSubstr("kv.buffer_device auto or cpu")));
  EXPECT_EQ(factory_->CreateOnDevice({.count = 1, .bytes = kSlotBytes}).status(), status);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  cuda_emulation::UsePeers(true);
  EXPECT_EQ(*factory_->device_memory(), *caches_[0]->staging()->device_memory());
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "access that was enabled before is not an error";
}

INSTANTIATE_TEST_SUITE_P(Devices, CudaRankSlotsTest,
                         testing::Values(Devices{2, 1}, Devices{4, 1}, Devices{4, 2},
                                         Devices{3, 3}),
                         [](const auto& tested) {
                           return std::to_string(tested.param.ranks) + "_of_" +
                                  std::to_string(tested.param.copies) + "_copies";
                         });

}  // namespace
}  // namespace baton
