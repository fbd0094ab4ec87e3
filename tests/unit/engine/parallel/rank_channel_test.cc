#include "engine/parallel/rank_channel.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <optional>
#include <thread>

namespace baton {
namespace {

struct Pair {
  Pair() {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    first.emplace(fds[0]);
    second_fd = fds[1];
    second.emplace(fds[1]);
  }
  std::optional<RankChannel> first;
  std::optional<RankChannel> second;
  int second_fd = -1;
};

TEST(RankChannel, CarriesFramesOfAnyLengthInOrder) {
  Pair pair;
  const std::string large(3 << 20, 'x');
  std::thread sender([&] {
    for (const std::string& frame : {std::string("one"), std::string(), large}) {
      EXPECT_TRUE(pair.first->Send(frame).ok());
    }
  });
  EXPECT_EQ(*pair.second->Receive(), "one");
  EXPECT_EQ(*pair.second->Receive(), "");
  EXPECT_EQ(*pair.second->Receive(), large);
  sender.join();
}

TEST(RankChannel, TheOtherEndsEndIsUnavailable) {
  Pair pair;
  pair.second.reset();
  EXPECT_EQ(pair.first->Receive().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(pair.first->Send("lost").code(), absl::StatusCode::kUnavailable);
}

TEST(RankChannel, WaitTellsOfAFrameAndOfTheOtherEndsGoing) {
  Pair pair;
  EXPECT_FALSE(pair.second->Wait(absl::ZeroDuration()));
  EXPECT_TRUE(pair.first->Send("a frame").ok());
  EXPECT_TRUE(pair.second->Wait(absl::InfiniteDuration()));
  EXPECT_EQ(*pair.second->Receive(), "a frame");
  EXPECT_FALSE(pair.second->Wait(absl::ZeroDuration()));
  pair.first.reset();
  EXPECT_TRUE(pair.second->Wait(absl::InfiniteDuration()));
}

TEST(CheckOtherEnd, SeesThatItIsGoneAndNotThatItHasSent) {
  Pair pair;
  EXPECT_TRUE(CheckOtherEnd(pair.second_fd).ok());
  EXPECT_TRUE(pair.first->Send("a frame").ok());
  EXPECT_TRUE(CheckOtherEnd(pair.second_fd).ok());
  pair.first.reset();
  EXPECT_EQ(CheckOtherEnd(pair.second_fd).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(*pair.second->Receive(), "a frame");
}

TEST(RankChannel, AFrameThatBreaksOffIsUnavailable) {
  Pair pair;
  const uint64_t length_bytes = 100;
  ASSERT_EQ(write(pair.second_fd, &length_bytes, sizeof(length_bytes)), 8);
  ASSERT_EQ(write(pair.second_fd, "short", 5), 5);
  pair.second.reset();
  EXPECT_EQ(pair.first->Receive().status().code(), absl::StatusCode::kUnavailable);
}

TEST(RankChannel, RefusesALengthThatNobodySends) {
  Pair pair;
  const uint64_t length_bytes = RankChannel::kMaxFrameBytes + 1;
  ASSERT_EQ(write(pair.second_fd, &length_bytes, sizeof(length_bytes)), 8);
  EXPECT_EQ(pair.first->Receive().status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace baton
