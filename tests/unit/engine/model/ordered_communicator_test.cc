#include "engine/model/cuda/ordered_communicator.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {
namespace {

// Of rank 1, with other ranks' numbers at hand; those that are gathered follow one another.
class RanksAtHand final : public CudaCommunicator {
 public:
  RanksAtHand(const DeviceArray<float>& numbers, size_t count)
      : numbers_(numbers.data()), count_(count) {}

  void AllReduceSum(const CudaContext&, float*, size_t) override { ADD_FAILURE(); }
  void AllGather(const CudaContext& context, const float* mine, float* all, size_t count) override {
    const size_t ranks = kRanks;
    for (size_t rank = 0; rank < ranks; ++rank) {
      const float* from = rank == 1 ? mine : numbers_ + rank * count_ + gathered_;
      context.Note(cudaMemcpyAsync(all + rank * count, from, count * sizeof(float),
                                   cudaMemcpyDeviceToDevice, context.stream()),
                   "gather");
    }
    gathered_ += count;
  }
  void Broadcast(const CudaContext&, int32_t*, size_t) override { ADD_FAILURE(); }

  static constexpr int32_t kRanks = 5;

 private:
  const float* const numbers_;  // [kRanks, count]
  const size_t count_;
  size_t gathered_ = 0;
};

class OrderedCommunicatorTest : public CudaTest {};

TEST_F(OrderedCommunicatorTest, AddsFromTheFirstRankToTheLastInPieces) {
  constexpr size_t kPiece = 64;
  constexpr size_t kRanks = RanksAtHand::kRanks;
  for (const size_t count : {size_t{1}, kPiece - 4, kPiece, kPiece + 4, 3 * kPiece + 7}) {
    std::vector<float> numbers;
    for (size_t rank = 0; rank < kRanks; ++rank) {  // so that the order shows
      const std::vector<float> of_rank = Random(count, rank % 2 == 0 ? 1.0f : 1e4f);
      numbers.insert(numbers.end(), of_rank.begin(), of_rank.end());
    }
    const DeviceArray<float> all = OnDevice(numbers);
    DeviceArray<float> mine =
        OnDevice(std::vector(numbers.begin() + static_cast<ptrdiff_t>(count),
                             numbers.begin() + static_cast<ptrdiff_t>(2 * count)));
    const auto ranks = *OrderedCommunicator::Create(std::make_unique<RanksAtHand>(all, count),
                                                    RanksAtHand::kRanks, kPiece);
    ranks->AllReduceSum(context(), mine.data(), count);
    const std::vector<float> sums = OnHost(mine);
    for (size_t i = 0; i < count; ++i) {
      float expected = numbers[i];
      for (size_t rank = 1; rank < kRanks; ++rank) expected += numbers[rank * count + i];
      ASSERT_EQ(sums[i], expected) << i << " of " << count;
    }
    EXPECT_EQ(ranks->device_bytes(), static_cast<int64_t>(kRanks * kPiece * sizeof(float)));
  }
}

}  // namespace
}  // namespace baton
