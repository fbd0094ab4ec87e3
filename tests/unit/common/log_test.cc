#include "common/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace baton {
namespace {

using ::testing::EndsWith;

TEST(Logger, TextLinesQuoteWhatNeedsIt) {
  Logger log("router", LogLevel::kInfo, LogFormat::kText);
  testing::internal::CaptureStderr();
  log.Info("request done",
           {{"request", RequestKey{RequestId(9), 2}}, {"why", "a \"b\" c"}, {"n", 3}});
  log.Debug("hidden");
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              EndsWith("I router  request done  request=9/2  why=\"a \\\"b\\\" c\"  n=3\n"));
}

TEST(Logger, JsonLinesParseEvenWithInvalidUtf8) {
  Logger log("decode-0", LogLevel::kDebug, LogFormat::kJson);
  testing::internal::CaptureStderr();
  log.Warning("odd", {{"bytes", std::string("\xff\xfe line\nbreak")}});
  const std::string line = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  const auto parsed = nlohmann::json::parse(line);
  EXPECT_EQ(parsed["level"], "warning");
  EXPECT_EQ(parsed["process"], "decode-0");
  EXPECT_EQ(parsed["event"], "odd");
}

}  // namespace
}  // namespace baton
