#include "router/core/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace baton::router {
namespace {

using ::testing::HasSubstr;

class AdmissionTest : public ::testing::Test {
 protected:
  AdmissionAnswer Ask() { return Judge(options_, question_); }
  AdmissionOptions options_{.slack = 0.95, .idle_tolerance = 1.1, .floor_share = 0.9};
  AdmissionQuestion question_{.slo = {.ttft_ms = 1000, .tpot_ms = 50},
                              .slo_class = "chat",
                              .timeout_ms = 60'000,
                              .prompt_tokens = 700,
                              .most_output = 100,
                              .forecast = {.known = true,
                                           .floor_ttft_ms = 200,
                                           .floor_tpot_ms = 10,
                                           .ttft_ms = 900,
                                           .tpot_ms = 40,
                                           .tpot_relief_ms = 7300}};
};

TEST_F(AdmissionTest, LetsInWhatIsForecastToMeetItsObjectives) {
  EXPECT_EQ(Ask().verdict, Verdict::kAdmit);
  question_.forecast.ttft_ms = 960;
  EXPECT_EQ(Ask().verdict, Verdict::kTtft);
  question_.forecast.floor_ttft_ms = 950;
  EXPECT_EQ(Ask().verdict, Verdict::kAdmit) << "it cannot go better, so it may try";
}

TEST_F(AdmissionTest, RefusesAMissedTtftAndSaysWhenItWouldBeMet) {
  question_.forecast.ttft_ms = 3400;
  question_.waited_ms = 100;
  const AdmissionAnswer answer = Ask();
  EXPECT_EQ(answer.verdict, Verdict::kTtft);
  EXPECT_EQ(answer.retry_after, absl::Seconds(3)) << "2.5 s too long, in whole seconds";
  EXPECT_THAT(answer.message, HasSubstr("TTFT of 3500 ms misses the objective of 1000 ms"));
}

TEST_F(AdmissionTest, RefusesWhatWouldMakeOthersMissThatCameBefore) {
  question_.forecast.start_ms = 300;
  question_.prefill_ms = 250;
  question_.behind_ms = 610;
  EXPECT_EQ(Ask().verdict, Verdict::kAdmit) << "550 ms, and a twentieth of the objective to spare";
  question_.behind_ms = 590;
  EXPECT_EQ(Ask().verdict, Verdict::kTtft);
  EXPECT_EQ(Ask().retry_after, absl::Seconds(1));
  EXPECT_THAT(Ask().message, HasSubstr("700 prompt tokens would make others miss"));
}

TEST_F(AdmissionTest, RefusesAMissedTpotUnlessThereIsOneTokenOnly) {
  question_.forecast.tpot_ms = 51;
  EXPECT_EQ(Ask().verdict, Verdict::kTpot);
  EXPECT_EQ(Ask().retry_after, absl::Seconds(8));
  question_.most_output = 1;
  EXPECT_EQ(Ask().verdict, Verdict::kAdmit);
}

TEST_F(AdmissionTest, AnImpossibleObjectiveIsNamedWithItsFloor) {
  question_.slo.ttft_ms = 150;
  EXPECT_EQ(Ask().verdict, Verdict::kFloor);
  EXPECT_THAT(Ask().message, HasSubstr("TTFT objective of 150 ms (class chat)"));
  EXPECT_THAT(Ask().message, HasSubstr("needs 200 ms for this request's 700 prompt tokens"));
  question_.slo = {.ttft_ms = 1000, .tpot_ms = 5};
  EXPECT_EQ(Ask().verdict, Verdict::kFloor);
  EXPECT_THAT(Ask().message, HasSubstr("TPOT objective of 5 ms"));
}

TEST_F(AdmissionTest, AnIdleClusterTriesWhatIsWithinReach) {
  question_.slo = {.ttft_ms = 100, .tpot_ms = 4};
  EXPECT_EQ(Ask().verdict, Verdict::kFloor);
  question_.idle = true;
  question_.forecast.ttft_ms = question_.forecast.floor_ttft_ms;
  question_.forecast.tpot_ms = question_.forecast.floor_tpot_ms;
  EXPECT_EQ(Ask().verdict, Verdict::kAdmit);
  question_.slo.ttft_ms = 50;  // a quarter of the floor
  EXPECT_EQ(Ask().verdict, Verdict::kFloor);
}

TEST_F(AdmissionTest, AFirstTokenAfterTheDeadlineIsNotWaitedFor) {
  question_.timeout_ms = 800;
  EXPECT_EQ(Ask().verdict, Verdict::kDeadline);
}

}  // namespace
}  // namespace baton::router
