// The router when workers are killed, fall silent, or hand over what does not arrive whole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "router/cluster_report.h"
#include "tests/unit/router/link/fake_worker.h"
#include "tests/unit/router/link/router_fixture.h"

namespace baton::router {
namespace {

using ::testing::HasSubstr;

TEST_F(RouterTest, LosesNoRequestWhenOneOfTwoPrefillWorkersIsKilled) {
  FakeWorker& first = AddWorker("prefill-0", Role::kPrefill);
  FakeWorker& second = AddWorker("prefill-1", Role::kPrefill);
  AddWorker("decode-0", Role::kDecode);
  StartAndWait();
  first.HoldPrefill(true);
  second.HoldPrefill(true);
  std::vector<RoutedRequest> requests;
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 10; ++i) {
    requests.push_back(MakeRequest(absl::StrCat("request number ", i), 6));
    sinks.push_back(Submit(requests.back()));
  }
  ASSERT_TRUE(WaitFor([&] { return first.open_keys() + second.open_keys() == 10; }));
  first.Kill();
  ASSERT_TRUE(WaitFor([&] { return second.open_keys() >= 8; }));
  second.HoldPrefill(false);
  int retried = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    ExpectWholeAnswer(requests[i], *sinks[i]);
    retried += sinks[i]->summary()->timings.attempts - 1;
  }
  EXPECT_GT(retried, 0);
}

TEST_F(RouterTest, KillingTheOnlyDecodeWorkerGivesEachOpenRequestOneErrorAndTheClusterRecovers) {
  AddWorker("prefill-0", Role::kPrefill);
  FakeWorker& decode = AddWorker("decode-0", Role::kDecode);
  StartAndWait();
  decode.SetGate(3);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 6; ++i) sinks.push_back(Submit(MakeRequest(absl::StrCat("open ", i), 50)));
  for (const auto& sink : sinks) ASSERT_TRUE(sink->WaitForTokens(3));
  const absl::Time killed = absl::Now();
  decode.Kill();
  for (const auto& sink : sinks) {
    ASSERT_TRUE(sink->WaitForEnd());
    ASSERT_TRUE(sink->error().has_value());
    EXPECT_EQ(sink->error()->code, RequestErrorCode::kDecodeLost);
  }
  EXPECT_LT(absl::Now() - killed, absl::Seconds(5));
  ASSERT_TRUE(WaitFor([&] { return router_->readiness().phase == ReadyPhase::kLoading; }));
  EXPECT_EQ(router_->readiness().detail, "waiting for a decode worker");
  decode.SetGate(1000);
  decode.Start();
  const RoutedRequest again = MakeRequest("after the restart", 5);
  ExpectWholeAnswer(again, *Submit(again));
  ExpectNothingHeld();
}

TEST_F(RouterTest, AStreamGoesOnWithTheSameTokensWhenItsDecodeWorkerIsKilled) {
  AddWorker("prefill-0", Role::kPrefill);
  FakeWorker& first = AddWorker("decode-0", Role::kDecode);
  FakeWorker& second = AddWorker("decode-1", Role::kDecode);
  StartAndWait();
  for (const int32_t samples : {1, 3}) {
    first.SetGate(4);
    second.SetGate(4);
    const RoutedRequest request =
        MakeRequest(absl::StrCat("request of ", samples, " samples"), 20, samples);
    const auto sink = Submit(request);
    ASSERT_TRUE(sink->WaitForTokens(static_cast<size_t>(4 * samples)));
    FakeWorker& holder = first.open_keys() > 0 ? first : second;
    ASSERT_EQ(first.open_keys() + second.open_keys(), 1);
    FakeWorker& other = &holder == &first ? second : first;
    other.SetGate(1000);
    holder.Kill();
    ExpectWholeAnswer(request, *sink);
    EXPECT_EQ(sink->summary()->timings.attempts, 2);
    ASSERT_TRUE(WaitFor([this] { return AliveWorkers() == workers_.size() - 1; }));
    holder.Start();
    ASSERT_TRUE(WaitFor([this] { return AliveWorkers() == workers_.size(); }));
  }
}

TEST_F(RouterTest, APairWhoseHandoffsFailIsShownAndServesAgainWhenTheyArrive) {
  AddWorker("prefill-0", Role::kPrefill);
  AddWorker("decode-0", Role::kDecode);
  StartAndWait();
  wire_.SetCorrupt(true);
  for (int i = 0; i < 2; ++i) {  // two attempts each
    const auto sink = Submit(MakeRequest("Once upon a time", 6));
    ASSERT_TRUE(sink->WaitForEnd());
    ASSERT_TRUE(sink->error().has_value());
    EXPECT_EQ(sink->error()->code, RequestErrorCode::kPrefillLost);
  }
  ASSERT_TRUE(WaitFor([&] { return !router_->report().ejected_pairs.empty(); }));
  const ClusterReport::EjectedPair pair = router_->report().ejected_pairs[0];
  EXPECT_EQ(pair.prefill, "prefill-0");
  EXPECT_EQ(pair.decode, "decode-0");
  EXPECT_EQ(pair.standing, "ejected");
  const std::string text = metrics_.Render();
  EXPECT_THAT(text, HasSubstr("baton_pairs_ejected 1"));
  EXPECT_THAT(text, HasSubstr("baton_router_ejections_total{what=\"pair\"} 1"));
  wire_.SetCorrupt(false);
  const RoutedRequest request = MakeRequest("Once upon a time", 6);
  ExpectWholeAnswer(request, *Submit(request));  // there is no other pair
}

TEST_F(RouterTest, ASilentWorkerLosesItsSessionAndComesBack) {
  FakeWorker& both = AddWorker("both-0", Role::kBoth);
  missed_heartbeats_ = 3;
  StartAndWait();
  both.SetGate(1);
  const auto sink = Submit(MakeRequest("stuck", 8));
  ASSERT_TRUE(sink->WaitForTokens(1));
  both.SetSilent(true);
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->error()->code, RequestErrorCode::kDecodeLost);
  EXPECT_TRUE(WaitFor([&] { return both.open_keys() == 0; })) << "its session has ended";
  both.SetSilent(false);
  both.SetGate(100);
  EXPECT_TRUE(WaitFor([this] { return router_->readiness().phase == ReadyPhase::kReady; }));
}

}  // namespace
}  // namespace baton::router
