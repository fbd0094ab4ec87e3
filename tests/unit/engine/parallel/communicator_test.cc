// Collective operations of ranks that are threads of one process.
#include "engine/parallel/gloo_communicator.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/unit/engine/parallel/rank_threads.h"

namespace baton {
namespace {

class CommunicatorTest : public testing::TestWithParam<int32_t> {
 protected:
  // With a communicator for each rank.
  void Run(const std::function<void(Communicator&)>& body) {
    const RendezvousDirectory directory;
    RunRanks(GetParam(), [&](int32_t rank) {
      auto communicator =
          ConnectGloo({.rank = rank, .size = GetParam(), .rendezvous = directory.path()});
      ASSERT_TRUE(communicator.ok()) << communicator.status();
      EXPECT_EQ((*communicator)->rank(), rank);
      EXPECT_EQ((*communicator)->size(), GetParam());
      body(**communicator);
    });
  }
};

// Numbers that differ by rank and place.
std::vector<float> NumbersOf(int32_t rank, size_t count) {
  std::vector<float> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 1000.0f * static_cast<float>(rank + 1));
  return numbers;
}

TEST_P(CommunicatorTest, AllGatherGivesEveryRankEveryPartInOrder) {
  Run([](Communicator& communicator) {
    for (const size_t count : {1u, 7u, 4096u, 300001u}) {
      const auto mine = NumbersOf(communicator.rank(), count);
      std::vector<float> all(count * static_cast<size_t>(communicator.size()));
      ASSERT_TRUE(
          communicator
              .AllGather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)))
              .ok());
      for (int32_t rank = 0; rank < communicator.size(); ++rank) {
        const auto begin = all.begin() + static_cast<ptrdiff_t>(count) * rank;
        EXPECT_EQ(std::vector<float>(begin, begin + static_cast<ptrdiff_t>(count)),
                  NumbersOf(rank, count));
      }
    }
  });
}

TEST_P(CommunicatorTest, GatherGivesThemToTheFirst) {
  Run([](Communicator& communicator) {
    const auto mine = NumbersOf(communicator.rank(), 33);
    std::vector<float> all(communicator.rank() == 0 ? 33 * communicator.size() : 0);
    ASSERT_TRUE(
        communicator.Gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)))
            .ok());
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(all[i], NumbersOf(static_cast<int32_t>(i / 33), 33)[i % 33]);
    }
  });
}

TEST_P(CommunicatorTest, AllReduceAddsUp) {
  Run([](Communicator& communicator) {
    for (const size_t count : {1u, 5u, 100003u}) {
      auto numbers = NumbersOf(communicator.rank(), count);
      ASSERT_TRUE(communicator.AllReduceSum(numbers).ok());
      std::vector<float> expected(count);
      for (int32_t rank = 0; rank < communicator.size(); ++rank) {
        const auto theirs = NumbersOf(rank, count);
        for (size_t i = 0; i < count; ++i) expected[i] += theirs[i];
      }
      EXPECT_EQ(numbers, expected);  // whole numbers: exact in any order
    }
  });
}

TEST_P(CommunicatorTest, NothingIsAnOperationToo) {
  Run([](Communicator& communicator) {
    EXPECT_TRUE(communicator.AllGather({}, {}).ok());
    EXPECT_TRUE(communicator.Gather({}, {}).ok());
    EXPECT_TRUE(communicator.AllReduceSum({}).ok());
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, CommunicatorTest, testing::Values(1, 2, 3, 4));

TEST(ConnectGloo, RefusesWhatIsNoGroup) {
  const RendezvousDirectory directory;
  EXPECT_EQ(ConnectGloo({.rank = 2, .size = 2, .rendezvous = directory.path()}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ConnectGloo({.rank = 0, .size = 2, .rendezvous = "/nowhere"}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ConnectGloo, EndsWhenARankWillNotCome) {
  const RendezvousDirectory directory;
  int asked = 0;
  const auto connected = ConnectGloo(
      {.rank = 0, .size = 2, .rendezvous = directory.path(), .check_alive = [&asked] {
         return ++asked < 3 ? absl::OkStatus() : absl::UnavailableError("rank 1 has ended");
       }});
  EXPECT_EQ(connected.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(std::string(connected.status().message()).find("rank 1 has ended"), std::string::npos)
      << connected.status();
}

TEST(ConnectGloo, ARankThatGoesIsAnErrorForTheOthers) {
  const RendezvousDirectory directory;
  RunRanks(3, [&](int32_t rank) {
    auto communicator = ConnectGloo({.rank = rank, .size = 3, .rendezvous = directory.path()});
    ASSERT_TRUE(communicator.ok()) << communicator.status();
    if (rank == 2) return;
    std::vector<float> numbers(100);
    EXPECT_EQ((*communicator)->AllReduceSum(numbers).code(), absl::StatusCode::kUnavailable);
  });
}

}  // namespace
}  // namespace baton
