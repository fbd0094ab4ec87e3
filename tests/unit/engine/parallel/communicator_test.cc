// What every Communicator does. Its ranks are threads of one process.
#include "engine/parallel/communicator.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "engine/parallel/gloo_communicator.h"
#include "engine/parallel/sum_parts.h"
#include "tests/unit/engine/parallel/rank_threads.h"

namespace baton {
namespace {

enum class Kind { kGloo, kOneMapping, kOwnMappings, kSpinning };

struct Case {
  Kind kind;
  int32_t size;
};

// A group whose ranks can join it from any thread.
class Group {
 public:
  explicit Group(const Case& test) : test_(test), shared_(test.size) {}

  absl::StatusOr<std::unique_ptr<Communicator>> Join(int32_t rank) const {
    switch (test_.kind) {
      case Kind::kGloo:
        return ConnectGloo({.rank = rank, .size = test_.size, .rendezvous = directory_.path()});
      case Kind::kOneMapping:
        return ConnectSharedMemory(shared_.memory(), {.rank = rank});
      case Kind::kOwnMappings:
        return ConnectSharedMemory(shared_.Map(), {.rank = rank});
      case Kind::kSpinning:
        return ConnectSharedMemory(shared_.memory(),
                                   {.rank = rank, .spin = absl::Microseconds(100)});
    }
    return absl::InternalError("no such kind");
  }

 private:
  const Case test_;
  const TestDirectory directory_;
  const TestGroup shared_;
};

class CommunicatorTest : public testing::TestWithParam<Case> {
 protected:
  // With a communicator for each rank.
  void Run(const std::function<void(Communicator&)>& body) {
    const Group group(GetParam());
    RunRanks(GetParam().size, [&](int32_t rank) {
      auto communicator = group.Join(rank);
      ASSERT_TRUE(communicator.ok()) << communicator.status();
      EXPECT_EQ((*communicator)->rank(), rank);
      EXPECT_EQ((*communicator)->size(), GetParam().size);
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

constexpr uint64_t kSeed = 20261122;

// Numbers of many sizes, whose sum depends on the order.
std::vector<float> UnevenNumbersOf(int32_t rank, size_t count) {
  std::mt19937_64 random(kSeed + static_cast<uint64_t>(rank));
  std::lognormal_distribution<float> distribution(0, 4);
  std::vector<float> numbers(count);
  for (float& number : numbers) number = distribution(random) * (random() % 2 == 0 ? 1.0f : -1.0f);
  return numbers;
}

std::span<const std::byte> Bytes(const std::vector<float>& numbers) {
  return std::as_bytes(std::span(numbers));
}

// The last is longer than a slot by a part of one.
constexpr size_t kCounts[] = {1, 7, 4096, 300001};

void CheckAllGather(Communicator& communicator, size_t count) {
  const auto mine = NumbersOf(communicator.rank(), count);
  std::vector<float> all(count * static_cast<size_t>(communicator.size()));
  ASSERT_TRUE(communicator.AllGather(Bytes(mine), std::as_writable_bytes(std::span(all))).ok());
  for (int32_t rank = 0; rank < communicator.size(); ++rank) {
    const auto begin = all.begin() + static_cast<ptrdiff_t>(count) * rank;
    ASSERT_EQ(std::vector<float>(begin, begin + static_cast<ptrdiff_t>(count)),
              NumbersOf(rank, count));
  }
}

void CheckGather(Communicator& communicator, size_t count) {
  const auto mine = NumbersOf(communicator.rank(), count);
  std::vector<float> all(communicator.rank() == 0 ? count * static_cast<size_t>(communicator.size())
                                                  : 0);
  ASSERT_TRUE(communicator.Gather(Bytes(mine), std::as_writable_bytes(std::span(all))).ok());
  for (size_t i = 0; i < all.size(); ++i) {
    ASSERT_EQ(all[i], 1000.0f * static_cast<float>(i / count + 1) + static_cast<float>(i % count));
  }
}

void CheckAllReduce(Communicator& communicator, size_t count) {
  std::vector<std::vector<float>> parts;
  std::vector<const float*> pointers;
  for (int32_t rank = 0; rank < communicator.size(); ++rank) {
    parts.push_back(UnevenNumbersOf(rank, count));
    pointers.push_back(parts.back().data());
  }
  std::vector<float> expected(count);
  SumParts(pointers, expected);
  std::vector<float> numbers = parts[static_cast<size_t>(communicator.rank())];
  ASSERT_TRUE(communicator.AllReduceSum(numbers).ok());
  ASSERT_EQ(std::memcmp(numbers.data(), expected.data(), count * sizeof(float)), 0)
      << count << " numbers, seed " << kSeed;
}

TEST_P(CommunicatorTest, AllGatherGivesEveryRankEveryPartInOrder) {
  Run([](Communicator& communicator) {
    for (const size_t count : kCounts) CheckAllGather(communicator, count);
  });
}

TEST_P(CommunicatorTest, GatherGivesThemToTheFirst) {
  Run([](Communicator& communicator) {
    for (const size_t count : kCounts) CheckGather(communicator, count);
  });
}

TEST_P(CommunicatorTest, AllReduceAddsInTheOrderOfTheRanks) {
  Run([](Communicator& communicator) {
    for (const size_t count : kCounts) CheckAllReduce(communicator, count);
  });
}

TEST_P(CommunicatorTest, OperationsFollowOneAnotherAtOnce) {
  Run([](Communicator& communicator) {
    std::mt19937_64 random(kSeed);  // the same on every rank
    for (int32_t i = 0; i < 200; ++i) {
      const size_t count = 1 + random() % 300;
      const uint64_t what = random() % 4;
      if (what == 0) CheckAllGather(communicator, count);
      if (what == 1) CheckAllReduce(communicator, count);
      if (what >= 2) CheckGather(communicator, count);  // whose senders need not wait
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

TEST_P(CommunicatorTest, ARankThatGoesIsAnErrorForTheOthers) {
  Run([](Communicator& communicator) {
    std::vector<float> numbers(100);
    ASSERT_TRUE(communicator.AllReduceSum(numbers).ok());
    if (communicator.rank() == GetParam().size - 1) return;
    EXPECT_EQ(communicator.AllReduceSum(numbers).code(), absl::StatusCode::kUnavailable);
  });
}

std::string NameOf(const testing::TestParamInfo<Case>& info) {
  constexpr const char* kNames[] = {"Gloo", "OneMapping", "OwnMappings", "Spinning"};
  return kNames[static_cast<size_t>(info.param.kind)] + std::to_string(info.param.size);
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const Kind kind : {Kind::kGloo, Kind::kOneMapping, Kind::kOwnMappings, Kind::kSpinning}) {
    for (const int32_t size : {1, 2, 3, 4}) cases.push_back({kind, size});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Groups, CommunicatorTest, testing::ValuesIn(Cases()), NameOf);

}  // namespace
}  // namespace baton
