// A key file that changes under a running router.
#include "router/front/key_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace baton {
namespace {

using ::testing::HasSubstr;
using Result = AccessDecision::Result;

std::string EntryOf(const std::string& name, const std::string& secret) {
  return absl::StrCat("  - name: ", name, "\n    sha256: ", ToHex(Bytes(Sha256(secret))), "\n");
}

class KeyFileTest : public ::testing::Test {
 protected:
  KeyFileTest()
      : path_(absl::StrCat(::testing::TempDir(), "/keys-", getpid(), "-",
                           ::testing::UnitTest::GetInstance()->current_test_info()->name())) {}
  ~KeyFileTest() override { std::filesystem::remove(path_); }
  void Write(const std::string& text) const {
    std::ofstream(path_ + ".new") << text;
    std::filesystem::rename(path_ + ".new", path_);
  }
  Result Use(KeyFile& file, const std::string& secret) {
    return file.Check("Bearer " + secret, Access::kUse).result;
  }

  const std::string path_;
  ManualClock clock_;
  Logger log_{"test", LogLevel::kError, LogFormat::kText};
  MetricRegistry metrics_;
};

TEST_F(KeyFileTest, FollowsTheFileWithinASecond) {
  Write("keys:\n" + EntryOf("alice", "a"));
  const auto file = KeyFile::Open(path_, clock_, log_, metrics_).value();
  EXPECT_EQ(Use(*file, "a"), Result::kAllowed);
  EXPECT_EQ(Use(*file, "b"), Result::kWrongKey);
  Write("keys:\n" + EntryOf("bob", "b"));
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(Use(*file, "a"), Result::kWrongKey);
  EXPECT_EQ(Use(*file, "b"), Result::kAllowed);
}

TEST_F(KeyFileTest, ABrokenFileChangesNothingAndIsCounted) {
  Write("keys:\n" + EntryOf("alice", "a"));
  const auto file = KeyFile::Open(path_, clock_, log_, metrics_).value();
  Write("keys: nonsense");
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(Use(*file, "a"), Result::kAllowed);
  std::filesystem::remove(path_);
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(Use(*file, "a"), Result::kAllowed);
  EXPECT_THAT(metrics_.Render(), HasSubstr("baton_api_keys_reload_failures_total 2"));
  Write("keys:\n" + EntryOf("bob", "b"));
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(Use(*file, "a"), Result::kWrongKey);
}

TEST_F(KeyFileTest, CountsCallsByNameAndNeverShowsAKey) {
  Write("keys:\n" + EntryOf("alice", "very-secret"));
  const auto file = KeyFile::Open(path_, clock_, log_, metrics_).value();
  Use(*file, "very-secret");
  Use(*file, "guess");
  file->Check("", Access::kUse);
  file->Check("Bearer very-secret", Access::kAdmin);
  const std::string metrics = metrics_.Render();
  EXPECT_THAT(metrics, HasSubstr("baton_api_key_requests_total{key=\"alice\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("baton_auth_refusals_total{reason=\"wrong_key\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("baton_auth_refusals_total{reason=\"no_key\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("baton_auth_refusals_total{reason=\"not_admin\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("baton_auth_refusals_total{reason=\"over_quota\"} 0"));
  EXPECT_FALSE(absl::StrContains(metrics, "very-secret"));
  EXPECT_FALSE(absl::StrContains(metrics, ToHex(Bytes(Sha256("very-secret")))));
}

TEST_F(KeyFileTest, WithoutAUsableFileThereIsNoStart) {
  EXPECT_TRUE(absl::IsNotFound(KeyFile::Open(path_, clock_, log_, metrics_).status()));
  Write("{");
  EXPECT_TRUE(absl::IsInvalidArgument(KeyFile::Open(path_, clock_, log_, metrics_).status()));
}

}  // namespace
}  // namespace baton
