// Whether a worker that cannot start any more ends.
#include "cli/rank_watch.h"

#include <gtest/gtest.h>

#include <atomic>

namespace baton {
namespace {

TEST(RankWatch, GivesUpOnceARankHasEnded) {
  std::atomic<int> checks = 0;
  absl::Notification gave_up;
  const RankWatch watch(
      [&] { return ++checks < 3 ? absl::OkStatus() : absl::UnavailableError("rank 2 has ended"); },
      absl::ZeroDuration(),
      [&](const absl::Status& why) {
        EXPECT_EQ(why.message(), "rank 2 has ended");
        gave_up.Notify();
      });
  EXPECT_TRUE(gave_up.WaitForNotificationWithTimeout(absl::Seconds(30)));
  EXPECT_EQ(checks, 3);
}

TEST(RankWatch, LeavesItToWhoeverCanTellMore) {
  absl::Notification asked;
  std::atomic<bool> gave_up = false;
  {
    const RankWatch watch(
        [&] {
          asked.Notify();  // once: an error is not asked for again
          return absl::UnavailableError("rank 1 has ended");
        },
        absl::InfiniteDuration(), [&](const absl::Status&) { gave_up = true; });
    ASSERT_TRUE(asked.WaitForNotificationWithTimeout(absl::Seconds(30)));
  }
  EXPECT_FALSE(gave_up);
}

TEST(RankWatch, EndsAtOnceWhenAllIsWell) {
  for (int i = 0; i < 3; ++i) {
    const RankWatch watch([] { return absl::OkStatus(); }, absl::ZeroDuration(),
                          [](const absl::Status&) { ADD_FAILURE(); });
  }
}

}  // namespace
}  // namespace baton
