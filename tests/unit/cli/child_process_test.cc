// Which ends of a child are good ones.
#include "cli/child_process.h"

#include <gtest/gtest.h>

#include <csignal>
#include <memory>
#include <string>

namespace baton {
namespace {

// A shell that runs `script`; what ChildProcess adds are the script's own arguments.
std::unique_ptr<ChildProcess> Shell(const std::string& script) {
  return ChildProcess::Start("child", {"-c", script}, "/bin/sh").value();
}

TEST(ChildProcess, EndsWellWithStatus0Only) {
  const auto good = Shell("exit 0");
  const auto bad = Shell("exit 3");
  ASSERT_TRUE(good->WaitForEnd(absl::Seconds(20)) && bad->WaitForEnd(absl::Seconds(20)));
  EXPECT_TRUE(good->EndedWell());
  EXPECT_FALSE(bad->EndedWell());
  EXPECT_EQ(bad->EndDescription(), "exit status 3");
}

// A worker that `baton up` has restarted a moment ago dies of the signal that asks it to drain.
TEST(ChildProcess, EndsWellByOurOwnTermination) {
  const auto child = Shell("exec sleep 60");
  EXPECT_FALSE(child->EndedWell());
  child->Signal(SIGTERM);
  ASSERT_TRUE(child->WaitForEnd(absl::Seconds(20)));
  EXPECT_TRUE(child->EndedWell());
}

TEST(ChildProcess, ButNotBySomebodyElsesOrByAnotherSignal) {
  const auto terminated = Shell("kill -TERM $$");
  const auto killed = Shell("exec sleep 60");
  killed->Signal(SIGKILL);
  ASSERT_TRUE(terminated->WaitForEnd(absl::Seconds(20)) && killed->WaitForEnd(absl::Seconds(20)));
  EXPECT_FALSE(terminated->EndedWell());
  EXPECT_EQ(terminated->EndDescription(), "signal 15");
  EXPECT_FALSE(killed->EndedWell());
}

}  // namespace
}  // namespace baton
