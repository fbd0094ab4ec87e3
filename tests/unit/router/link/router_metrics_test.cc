// The series that the router shows, before any request and after some.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/router/link/router_fixture.h"

namespace baton::router {
namespace {

using ::testing::HasSubstr;

TEST_F(RouterTest, SeriesExistAtZeroAndCountRequests) {
  AddWorker("prefill-0", Role::kPrefill);
  AddWorker("decode-0", Role::kDecode);
  options_.model_name = "m";
  options_.slo_ttft_ms = 60'000;
  options_.slo_tpot_ms = 123;
  StartAndWait();
  std::string text = metrics_.Render();
  for (const char* series :
       {"baton_requests_running 0", "baton_requests_waiting 0", "baton_prompt_tokens_total 0",
        "baton_request_success_total{finish_reason=\"length\"} 0", "le=\"0.123\"} 0",
        "baton_slo_requests_total{missed_stage=\"queue\",model=\"m\",result=\"ttft_miss\","
        "slo_class=\"default\"} 0",
        "baton_slo_threshold_seconds{metric=\"tpot\",slo_class=\"default\"} 0.123",
        "baton_request_stage_seconds_count{stage=\"decode_queue\"} 0",
        "baton_goodput_tokens_total 0", "baton_router_placements_total{path=\"in_place\"} 0",
        "baton_router_admission_total{verdict=\"floor\"} 0",
        "baton_router_prediction_error_ratio_count{metric=\"tpot\"} 0",
        "baton_router_kv_resyncs_total 0", "baton_workers_ejected{role=\"decode\"} 0",
        "baton_pairs_ejected 0", "baton_router_ejections_total{what=\"worker\"} 0"}) {
    EXPECT_THAT(text, HasSubstr(series));
  }
  const RoutedRequest request = MakeRequest("Once upon a time", 12);
  ExpectWholeAnswer(request, *Submit(request));
  ASSERT_TRUE(router_->WaitUntilIdle(kWait));
  text = metrics_.Render();
  for (const char* series :
       {"baton_request_success_total{finish_reason=\"length\"} 1", "baton_prompt_tokens_total 16",
        "baton_generation_tokens_total 12", "baton_time_to_first_token_seconds_count 1",
        "baton_inter_token_latency_seconds_count 11", "baton_goodput_tokens_total 12",
        "baton_request_stage_seconds_count{stage=\"decode_queue\"} 1",
        "baton_router_placements_total{path=\"handoff\"} 1",
        "baton_router_admission_total{verdict=\"admitted\"} 1",
        "baton_slo_requests_total{missed_stage=\"none\",model=\"m\",result=\"good\","
        "slo_class=\"default\"} 1"}) {
    EXPECT_THAT(text, HasSubstr(series));
  }
}

TEST_F(RouterTest, EachSloClassHasItsOwnObjectivesSeriesAndBounds) {
  AddWorker("both-0", Role::kBoth);
  options_.model_name = "m";
  options_.slo_classes = {{.name = "chat", .target = {60'000, 60'000}},
                          {.name = "batch", .target = {0.001, 321}}};
  StartAndWait();
  RoutedRequest request = MakeRequest("Once upon a time", 2);
  request.slo.slo_class = "chat";
  ExpectWholeAnswer(request, *Submit(request));
  request.slo.slo_class = "batch";
  ExpectWholeAnswer(request, *Submit(request));
  request.slo.ttft_ms = 60'000;
  ExpectWholeAnswer(request, *Submit(request));
  ASSERT_TRUE(router_->WaitUntilIdle(kWait));
  const std::string text = metrics_.Render();
  for (const char* series :
       {"result=\"good\",slo_class=\"chat\"} 1", "result=\"good\",slo_class=\"batch\"} 1",
        "result=\"good\",slo_class=\"default\"} 0", "result=\"ttft_miss\",slo_class=\"batch\"} 1",
        "baton_slo_threshold_seconds{metric=\"tpot\",slo_class=\"batch\"} 0.321",
        "le=\"0.321\"}"}) {
    EXPECT_THAT(text, HasSubstr(series));
  }
}

}  // namespace
}  // namespace baton::router
