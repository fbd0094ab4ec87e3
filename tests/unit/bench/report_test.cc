#include "bench/load/report/bench_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>

namespace baton::load {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

RequestRecord Answered(int64_t index, double at_ms, double ttft_ms) {
  RequestRecord record;
  record.index = index;
  record.outcome = Outcome::kOk;
  record.http_status = 200;
  record.prompt_tokens = 100;
  record.asked_tokens = record.output_tokens = 3;
  record.exact_count = true;
  record.intended_ms = record.sent_ms = at_ms;
  record.first_ms = at_ms + ttft_ms;
  record.gaps_ms = {10, 20};
  record.last_ms = record.end_ms = record.first_ms + 30;
  record.timings =
      ServerTimings{.queue_ms = ttft_ms / 2, .prefill_ms = ttft_ms / 4, .ttft_ms = ttft_ms};
  return record;
}

BenchReport Report(const std::string& error_text = "full") {
  BenchReport report;
  report.info.command = "baton bench serve --slo 100:20";
  report.info.model = "demo";
  report.info.base_url = "http://127.0.0.1:8000";
  report.info.arrivals = "poisson at 2.00/s";
  report.info.lengths = "fixed:100/3";
  report.classes = {{.name = "chat", .share = 0.5, .slo = {100, 20}},
                    {.name = "batch", .share = 0.5, .slo = {kNoBound, 50}}};
  SeedRun run;
  run.seed = 7;
  RequestRecord warmup = Answered(0, 0, 5000);
  warmup.warmup = true;
  run.result.records = {warmup, Answered(1, 100, 50), Answered(2, 600, 150), Answered(3, 1100, 50)};
  run.result.records[3].slo_class = 1;
  RequestRecord& failed = run.result.records.emplace_back();
  failed.index = 4;
  failed.outcome = Outcome::kRejected;
  failed.http_status = 429;
  failed.detail = error_text;
  failed.intended_ms = failed.sent_ms = 1500;
  failed.end_ms = 1510;
  failed.prompt_tokens = 100;
  failed.asked_tokens = 3;
  run.result.overhead = {.cpu_s = 0.02,
                         .wall_s = 2,
                         .read_lag_ms = Describe({0.25, 0.25}),
                         .connections = 4,
                         .output_tokens = 10};
  run.summary = Summarize(run.result.records, report.classes);
  report.runs.push_back(std::move(run));
  report.pooled = report.runs[0].summary;
  return report;
}

TEST(JsonReport, HoldsEveryFigure) {
  const json parsed = json::parse(JsonReport(Report(), /*with_records=*/false));
  EXPECT_EQ(parsed["command"], "baton bench serve --slo 100:20");
  const json& summary = parsed["summary"];
  EXPECT_EQ(summary["requests"], 4);
  EXPECT_EQ(summary["warmup_requests"], 1);
  EXPECT_EQ(summary["succeeded"], 3);
  EXPECT_EQ(summary["failures"][0]["reason"], "rejected (HTTP 429)");
  EXPECT_EQ(summary["failures"][0]["count"], 1);
  EXPECT_EQ(summary["failures"][0]["first_detail"], "full");
  for (const char* name : {"ttft_ms", "tpot_ms", "itl_ms", "e2e_ms", "gap2_ms", "max_itl_ms"}) {
    for (const char* figure : {"count", "mean", "p50", "p90", "p99", "max"}) {
      EXPECT_TRUE(summary[name][figure].is_number()) << name << " " << figure;
    }
  }
  EXPECT_EQ(summary["ttft_ms"]["max"], 150);
  EXPECT_EQ(summary["attainment"]["good"], 2);
  EXPECT_EQ(summary["attainment"]["missed"]["ttft"], 1);
  EXPECT_EQ(summary["attainment"]["missed_by_stage"]["queue"], 1);
  EXPECT_EQ(summary["attainment_by_class"]["chat"]["requests"], 3);
  EXPECT_EQ(parsed["classes"][1]["ttft_ms"], nullptr);  // no bound: JSON has no infinity
  EXPECT_EQ(parsed["runs"][0]["seed"], 7);
  EXPECT_EQ(parsed["runs"][0]["client"]["cpu_fraction"], 0.01);
  EXPECT_EQ(parsed["runs"][0]["client"]["cpu_per_token_us"], 2000);
  EXPECT_EQ(parsed["runs"][0]["client"]["read_lag_ms"]["p99"], 0.25);
  EXPECT_FALSE(parsed["runs"][0].contains("records"));
}

TEST(JsonReport, RecordsHoldEachRequestWithItsGaps) {
  const json parsed = json::parse(JsonReport(Report(), /*with_records=*/true));
  const json& records = parsed["runs"][0]["records"];
  ASSERT_EQ(records.size(), 5u);
  EXPECT_EQ(records[0]["warmup"], true);
  EXPECT_EQ(records[1]["outcome"], "ok");
  EXPECT_EQ(records[1]["gaps_ms"], json({10, 20}));
  EXPECT_EQ(records[1]["timings"]["queue_ms"], 25);
  EXPECT_EQ(records[4]["outcome"], "rejected");
  EXPECT_FALSE(records[4].contains("first_ms"));
}

TEST(JsonReport, IsJsonWhateverTheServerSays) {
  const BenchReport report = Report("\xff\xfe \"quote\" \\ \x01 </script>");
  const json parsed = json::parse(JsonReport(report, /*with_records=*/true));
  EXPECT_THAT(parsed["summary"]["failures"][0]["first_detail"].get<std::string>(),
              HasSubstr("\"quote\" \\ \x01 </script>"));
}

TEST(JsonReport, NothingAnsweredIsStillAReport) {
  BenchReport report = Report();
  for (RequestRecord& record : report.runs[0].result.records) {
    record.outcome = Outcome::kConnectFailed;
    record.output_tokens = 0;
  }
  report.pooled = Summarize(report.runs[0].result.records, report.classes);
  const json parsed = json::parse(JsonReport(report, false));
  EXPECT_EQ(parsed["summary"]["ttft_ms"], json({{"count", 0}}));
  EXPECT_THAT(TextReport(report), HasSubstr("no sample"));
  EXPECT_THAT(HtmlReport(report), HasSubstr("</html>"));
}

// The JSON that the page's script reads.
json DataOf(const std::string& page) {
  const std::string open = R"(<script type="application/json" id="data">)";
  const size_t from = page.find(open) + open.size();
  return json::parse(page.substr(from, page.find("</script>", from) - from));
}

TEST(HtmlReport, NeedsNothingFromOutside) {
  const std::string page = HtmlReport(Report());
  for (const char* resource : {"src=", "href=", "@import", "url(", "fetch(", "XMLHttp"}) {
    EXPECT_THAT(page, Not(HasSubstr(resource)));
  }
  // Addresses are the server's, in the data, and the name of SVG, which is not fetched.
  const std::regex address("https?://[^\"'` ]*");
  for (auto it = std::sregex_iterator(page.begin(), page.end(), address);
       it != std::sregex_iterator(); ++it) {
    EXPECT_TRUE(it->str() == "http://www.w3.org/2000/svg" || it->str() == "http://127.0.0.1:8000")
        << it->str();
  }
  EXPECT_THAT(page, Not(HasSubstr("{{")));
}

TEST(HtmlReport, TextFromTheServerCannotLeaveItsPlace) {
  const std::string attack =
      "</script><script>alert(1)</script><!-- <img onerror=alert(2)> {{SCRIPT}} {{DATA}}";
  const std::string page = HtmlReport(Report(attack));
  EXPECT_THAT(page, AllOf(Not(HasSubstr("alert(1)</script>")), Not(HasSubstr("<!--")),
                          Not(HasSubstr("<img"))));
  // Two scripts, the data and the code, and none besides.
  size_t scripts = 0;
  for (size_t at = 0; (at = page.find("</script>", at)) != std::string::npos; ++at) ++scripts;
  EXPECT_EQ(scripts, 2u);
  EXPECT_EQ(DataOf(page)["summary"]["failures"][0]["first_detail"], attack);
  // The code puts text in by textContent alone.
  EXPECT_THAT(page, AllOf(Not(HasSubstr("innerHTML")), Not(HasSubstr("outerHTML")),
                          Not(HasSubstr("insertAdjacent")), Not(HasSubstr("document.write"))));
}

TEST(HtmlReport, PlotsWhatTheRunWas) {
  const json data = DataOf(HtmlReport(Report()));
  EXPECT_EQ(data["points"].size(), 4u);  // without the warm-up
  EXPECT_EQ(data["points"][0], json({0.1, 50, 0, 100, 3}));
  EXPECT_EQ(data["points"][1][2], 1);  // missed TTFT
  EXPECT_EQ(data["points"][3][2], 4);  // not served
  for (const char* which : {"ttft_ms", "tpot_ms", "itl_ms", "e2e_ms"}) {
    const json& values = data["cdf"][which];
    ASSERT_GE(values.size(), 2u) << which;
    EXPECT_TRUE(std::is_sorted(values.begin(), values.end())) << which;
  }
  EXPECT_EQ(data["cdf"]["ttft_ms"].back(), 150);
  int64_t requests = 0, good = 0;
  for (const json& window : data["windows"]) {
    requests += window[2].get<int64_t>();
    good += window[3].get<int64_t>();
  }
  EXPECT_EQ(requests, 4);
  EXPECT_EQ(good, 2);
  double arrivals = 0, tokens = 0;
  const double width_s = data["last_s"].get<double>() / static_cast<double>(data["flow"].size());
  for (const json& bin : data["flow"]) {
    arrivals += bin[1].get<double>() * width_s;
    tokens += bin[3].get<double>() * width_s;
  }
  EXPECT_NEAR(arrivals, 5, 0.01);
  EXPECT_NEAR(tokens, 12, 0.01);
}

TEST(TextReport, HasTheFieldsPeopleKnow) {
  const std::string text = TextReport(Report());
  for (const char* words :
       {"Serving Benchmark Result", "Successful requests:                       3",
        "Failed requests:                           1", "Mean TTFT (ms)", "P99 TPOT (ms)",
        "P90 ITL (ms)", "Max ITL (ms)", "gap 2", "P99 E2EL (ms)", "Request goodput (req/s)",
        "good 2 of 4 (50.0%); missed TTFT 1, TPOT 0, both 0; not served 1",
        "misses by stage: queue 1", "chat  TTFT 100 ms, TPOT 20 ms", "batch  TTFT -, TPOT 50 ms",
        "rejected (HTTP 429):                       1", "first: full", "0.02 (1.0% of one core)",
        "P99 read lag (ms):                         0.25"}) {
    EXPECT_THAT(text, HasSubstr(words));
  }
  EXPECT_THAT(text, Not(HasSubstr(" \n")));
}

TEST(Warnings, SayWhenTheClientIsTheLimit) {
  BenchReport report = Report();
  EXPECT_TRUE(Warnings(report).empty());
  report.pooled.late_ms.p99 = 11;
  report.runs[0].result.overhead.read_lag_ms.p99 = 6;
  report.runs[0].result.overhead.cpu_s = 1.8;
  EXPECT_THAT(Warnings(report), AllOf(Contains(HasSubstr("sent late (p99 11.0 ms)")),
                                      Contains(HasSubstr("read late (p99 6.0 ms)")),
                                      Contains(HasSubstr("90% of its one core"))));
}

TEST(Warnings, SayWhenPromptsWereCachedFromAnEarlierRun) {
  BenchReport report = Report();
  report.pooled.cached_tokens = 64;
  EXPECT_THAT(Warnings(report), ElementsAre(HasSubstr("64 of 300 prompt tokens came from")));
  report.runs[0].shares_prefixes = true;
  EXPECT_TRUE(Warnings(report).empty());
}

}  // namespace
}  // namespace baton::load
