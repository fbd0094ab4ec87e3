#include "engine/parallel/shared_memory_communicator.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "tests/unit/engine/parallel/rank_threads.h"

namespace baton {
namespace {

constexpr absl::Duration kSoon = absl::Milliseconds(1);

TEST(ConnectSharedMemory, RefusesWhatIsNoRank) {
  const TestGroup group(2);
  for (const int32_t rank : {-1, 2}) {
    EXPECT_EQ(ConnectSharedMemory(group.memory(), {.rank = rank}).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(ConnectSharedMemory, EndsWhenARankDoesNotComeInTime) {
  const TestGroup group(2);
  const auto connected = ConnectSharedMemory(group.memory(), {.rank = 0, .connect_timeout = kSoon});
  EXPECT_EQ(connected.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(connected.status().message(), "tensor parallelism: rank 1 was not there within 1ms");
}

TEST(ConnectSharedMemory, EndsWhenARankWillNotComeAndTellsTheOthers) {
  const TestGroup group(3);
  RunRanks(2, [&](int32_t rank) {
    SharedMemoryOptions options{.rank = rank, .connect_timeout = absl::Seconds(20)};
    if (rank == 0) {
      options.check_alive = [] { return absl::UnavailableError("rank 2 has ended"); };
    }
    const absl::Status status = ConnectSharedMemory(group.memory(), options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(status.message(), rank == 0 ? "tensor parallelism: rank 2 has ended"
                                          : "tensor parallelism: rank 0 has left");
  });
}

TEST(ConnectSharedMemory, RefusesARankThatIsThereAlready) {
  const TestGroup group(1);
  const auto first = ConnectSharedMemory(group.memory(), {.rank = 0});
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(ConnectSharedMemory(group.memory(), {.rank = 0}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(SharedMemoryCommunicator, ARankThatIsLateBreaksTheGroupForGood) {
  const TestGroup group(2);
  RunRanks(2, [&](int32_t rank) {
    auto communicator = ConnectSharedMemory(group.memory(), {.rank = rank, .timeout = kSoon});
    ASSERT_TRUE(communicator.ok()) << communicator.status();
    std::vector<float> numbers(10);
    if (rank == 0) {
      const absl::Status late = (*communicator)->AllReduceSum(numbers);
      EXPECT_EQ(late.message(), "tensor parallelism: rank 1 was not there within 1ms");
      EXPECT_EQ((*communicator)->AllReduceSum(numbers), late);
      return;
    }
    // It comes when the other has given up.
    while (group.memory()->state(0).presence.load() != RankPresence::kGaveUp) {
      std::this_thread::yield();
    }
    EXPECT_TRUE((*communicator)->Gather(std::as_bytes(std::span(numbers)), {}).ok());
    EXPECT_EQ((*communicator)->AllReduceSum(numbers).message(),
              "tensor parallelism: rank 0 has left");
  });
}

TEST(SharedMemoryCommunicator, WhatARankHasSentBeforeItLeftArrives) {
  const TestGroup group(2);
  RunRanks(2, [&](int32_t rank) {
    auto communicator = ConnectSharedMemory(group.memory(), {.rank = rank});
    ASSERT_TRUE(communicator.ok()) << communicator.status();
    const std::vector<float> mine(5, static_cast<float>(rank));
    std::vector<float> all(10);
    if (rank == 0) {
      while (group.memory()->state(1).presence.load() != RankPresence::kLeft) {
        std::this_thread::yield();
      }
    }
    ASSERT_TRUE((*communicator)
                    ->Gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)))
                    .ok());
    const std::vector<float> expected = {0, 0, 0, 0, 0, 1, 1, 1, 1, 1};
    EXPECT_EQ(all, rank == 0 ? expected : std::vector<float>(10));
  });
}

TEST(SharedMemoryCommunicator, ARankThatSleepsIsWokenByTheLastToArrive) {
  constexpr int32_t kRounds = 100;
  const TestGroup group(2);
  const absl::Time start = absl::Now();
  RunRanks(2, [&](int32_t rank) {
    auto communicator = ConnectSharedMemory(group.memory(), {.rank = rank});
    ASSERT_TRUE(communicator.ok()) << communicator.status();
    for (int32_t round = 0; round < kRounds; ++round) {
      std::vector<float> numbers(10);
      while (rank == 1 && group.memory()->header().sleepers.load() == 0) std::this_thread::yield();
      ASSERT_TRUE((*communicator)->AllReduceSum(numbers).ok());
    }
  });
  // A rank that nobody wakes looks every 50 ms.
  EXPECT_LT(absl::Now() - start, kRounds * absl::Milliseconds(15));
}

using SharedMemoryCommunicatorDeathTest = testing::Test;

TEST(SharedMemoryCommunicatorDeathTest, OperationsThatDifferAreABug) {
  EXPECT_DEATH(
      {
        const TestGroup group(2);
        RunRanks(2, [&](int32_t rank) {
          auto communicator = ConnectSharedMemory(group.memory(), {.rank = rank});
          std::vector<float> numbers(10 + static_cast<size_t>(rank));
          (void)(*communicator)->AllReduceSum(numbers);
        });
      },
      "rank [01] does 3 with 4[04] bytes, rank [01] does 3 with 4[04]");
}

// A rank that is a process: it adds up until it is killed or the group breaks. Exit status 0: it
// broke as it should.
[[noreturn]] void RunRank(const TestGroup& group, int32_t rank,
                          std::function<absl::Status()> check_alive) {
  auto communicator = ConnectSharedMemory(
      group.Map(),
      {.rank = rank, .spin = absl::Microseconds(20), .check_alive = std::move(check_alive)});
  if (!communicator.ok()) _exit(2);
  std::vector<float> numbers(70000);  // two chunks
  for (;;) {
    std::fill(numbers.begin(), numbers.end(), static_cast<float>(rank + 1));
    const absl::Status status = (*communicator)->AllReduceSum(numbers);
    if (absl::IsUnavailable(status)) _exit(0);
    const bool right = std::all_of(numbers.begin(), numbers.end(), [](float n) { return n == 6; });
    if (!status.ok() || !right) _exit(3);
  }
}

TEST(SharedMemoryCommunicator, ProcessesAddUpUntilOneIsKilled) {
  constexpr int32_t kRanks = 3;
  const TestGroup group(kRanks);
  std::vector<pid_t> ranks;
  for (int32_t rank = 0; rank < kRanks; ++rank) {
    const pid_t victim = rank == 0 ? -1 : ranks[0];
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    // The last is the one that looks after the first; the other hears of it.
    if (pid == 0) {
      RunRank(
          group, rank, rank != kRanks - 1 ? std::function<absl::Status()>() : [victim] {
            // A zombie until this test's end: its state is the only sign.
            return kill(victim, 0) == 0 ? absl::OkStatus() : absl::UnavailableError("killed");
          });
    }
    ranks.push_back(pid);
  }
  // Some hundred sums: each is two chunks.
  const auto& first = group.memory()->state(0).chunks;
  while (!HasReached(first.load(), kFirstChunk + 500)) std::this_thread::yield();
  ASSERT_EQ(kill(ranks[0], SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(waitpid(ranks[0], &status, 0), ranks[0]);  // reaped: kill(pid, 0) fails from here on
  EXPECT_TRUE(WIFSIGNALED(status));
  for (int32_t rank = 1; rank < kRanks; ++rank) {
    ASSERT_EQ(waitpid(ranks[static_cast<size_t>(rank)], &status, 0), ranks[rank]);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "rank " << rank << ": " << status;
  }
}

TEST(SpinTime, IsNoneWhereRanksWouldKeepOneAnotherFromRunning) {
  EXPECT_GT(SpinTime(2, 1, 2), absl::ZeroDuration());
  EXPECT_GT(SpinTime(2, 4, 8), absl::ZeroDuration());
  EXPECT_EQ(SpinTime(2, 2, 2), absl::ZeroDuration());
  EXPECT_EQ(SpinTime(4, 1, 2), absl::ZeroDuration());
  EXPECT_EQ(SpinTime(64, 1 << 30, 64), absl::ZeroDuration());
}

}  // namespace
}  // namespace baton
