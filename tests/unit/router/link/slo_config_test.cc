// SLO classes as the configuration gives them.
#include "router/link/slo_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace baton::router {
namespace {

using ::testing::HasSubstr;

TEST(SloConfig, ReadsClassesAndNamesWhatIsWrong) {
  const auto classes = ParseSloClasses({"name=chat;ttft_ms=500;tpot_ms=50;weight=2",
                                        "name=batch; ttft_ms=6e4;tpot_ms=9;shed_order=3"});
  ASSERT_TRUE(classes.ok()) << classes.status();
  ASSERT_EQ(classes->size(), 2u);
  EXPECT_EQ((*classes)[0].name, "chat");
  EXPECT_EQ((*classes)[0].target.ttft_ms, 500);
  EXPECT_EQ((*classes)[0].weight, 2);
  EXPECT_EQ((*classes)[1].shed_order, 3);
  const auto message = [](const std::vector<std::string>& entries) {
    return ParseSloClasses(entries).status().ToString();
  };
  EXPECT_THAT(message({"ttft_ms=1;tpot_ms=1"}), HasSubstr("needs a name"));
  EXPECT_THAT(message({"name=a b;ttft_ms=1;tpot_ms=1"}), HasSubstr("needs a name"));
  EXPECT_THAT(message({"name=a;ttft_ms=0;tpot_ms=1"}), HasSubstr("a.ttft_ms is \"0\""));
  EXPECT_THAT(message({"name=a;ttft_ms=1"}), HasSubstr("a.tpot_ms is \"\""));
  EXPECT_THAT(message({"name=a;ttft_ms=1;tpot_ms=nan"}), HasSubstr("from 0.1 to"));
  EXPECT_THAT(message({"name=a;ttftms=1;tpot_ms=1"}), HasSubstr("did you mean \"ttft_ms\""));
  EXPECT_THAT(message({"name=a;ttft_ms=1;tpot_ms=1", "name=a;ttft_ms=1;tpot_ms=1"}),
              HasSubstr("twice"));
}

}  // namespace
}  // namespace baton::router
