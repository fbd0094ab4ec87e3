#include "bench/sweep/core/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "bench/sweep/report/sweep_report.h"

namespace baton::sweep {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

// Serves one request after another, each in `service_ms`, and generates at `tpot_ms`.
struct Machine {
  double service_ms = 100;
  double tpot_ms = 10;
};

// Virtual time: a run takes as long as its requests say.
class FakeLab final : public Lab {
 public:
  std::map<std::string, Machine> machines;  // by setup
  std::vector<std::string> started;
  absl::Time now = absl::UnixEpoch();
  bool fails = false;

  absl::Time Now() override { return now; }
  absl::StatusOr<std::unique_ptr<Cluster>> Start(const sweep::Setup& setup, const load::Slo&,
                                                 bool) override {
    if (fails) return absl::UnavailableError("worker ended while starting");
    started.push_back(setup.name);
    return std::make_unique<FakeCluster>(machines.at(setup.name), &now);
  }

 private:
  class FakeCluster final : public Cluster {
   public:
    FakeCluster(const Machine& machine, absl::Time* now) : machine_(machine), now_(now) {}
    int32_t max_model_len() const override { return 4096; }
    absl::StatusOr<std::vector<load::RequestRecord>> Run(
        const load::LoadPlan& plan,
        const std::function<bool(const load::RequestRecord&)>& go_on) override {
      std::vector<load::RequestRecord> records;
      double free_ms = 0;
      for (const load::PlannedRequest& request : plan.requests) {
        load::RequestRecord record;
        record.warmup = request.warmup;
        record.outcome = load::Outcome::kOk;
        record.intended_ms = record.sent_ms = absl::ToDoubleMilliseconds(request.at);
        free_ms = std::max(free_ms, record.intended_ms) + machine_.service_ms;
        record.output_tokens = request.output_tokens;
        record.first_ms = free_ms;
        record.last_ms = free_ms + machine_.tpot_ms * (request.output_tokens - 1);
        record.end_ms = record.last_ms;
        records.push_back(record);
        if (!go_on(record)) break;
      }
      *now_ += absl::Milliseconds(records.back().end_ms);
      return records;
    }

   private:
    const Machine machine_;
    absl::Time* const now_;
  };
};

const Scenario kScenario{.name = "test", .lengths = "fixed:512/64"};

SweepInput Input() {
  SweepInput input;
  input.arms = MakeArms({0, 1}, {"auto", "64"});
  input.effort = {.point = absl::Seconds(400), .least_requests = 200, .seeds = 3};
  return input;
}

FakeLab LabOf(double disaggregated_ms, double unchunked_ms, double chunked_ms) {
  FakeLab lab;
  lab.machines = {{"1P+1D", {.service_ms = disaggregated_ms}},
                  {"1x2", {.service_ms = unchunked_ms}},
                  {"2x1", {.service_ms = unchunked_ms * 1.5}},
                  {"1x2 chunk auto", {.service_ms = chunked_ms * 1.4}},
                  {"2x1 chunk auto", {.service_ms = chunked_ms * 1.4}},
                  {"1x2 chunk 64", {.service_ms = chunked_ms}},
                  {"2x1 chunk 64", {.service_ms = chunked_ms * 1.4}}};
  return lab;
}

TEST(Sweep, FindsEachArmsGoodputAndItsBestSetup) {
  FakeLab lab = LabOf(100, 200, 80);
  auto result = RunScenario(kScenario, Input(), lab);
  ASSERT_TRUE(result.ok()) << result.status();
  // Three times the slowest setup alone, 300 ms; TPOT is never in the way.
  EXPECT_NEAR(result->slo.ttft_ms, 900, 1e-6);
  EXPECT_NEAR(result->slo.tpot_ms, 15, 1e-6);
  EXPECT_EQ(result->arm(kUnchunked).chosen().name, "1x2");
  EXPECT_EQ(result->arm(kChunked).chosen().name, "1x2 chunk 64");
  for (const ArmResult& arm : result->arms) {
    const double most = 1000 / lab.machines.at(arm.chosen().name).service_ms;
    EXPECT_GT(arm.goodput_90.value, most * 0.6) << arm.name;
    EXPECT_LT(arm.goodput_90.value, most * 1.05) << arm.name;
    ASSERT_TRUE(arm.goodput_99.has_value());
    EXPECT_LE(arm.goodput_99->value, arm.goodput_90.value) << arm.name;
    EXPECT_FALSE(arm.at_least);
    EXPECT_TRUE(std::is_sorted(arm.scale_shares.begin(), arm.scale_shares.end())) << arm.name;
  }
  EXPECT_GT(result->RatioOver(kUnchunked).low, 1.5);
  EXPECT_EQ(Verdict(*result, kUnchunked), "wins");
  EXPECT_EQ(Verdict(*result, kChunked), "loses");
  EXPECT_TRUE(Doubts(*result).empty());
  // A rival that held 90 % wherever it was measured may hold it further up.
  result->arms[1].at_least = true;
  EXPECT_EQ(Verdict(*result, kUnchunked), "open");
  EXPECT_THAT(Doubts(*result), ElementsAre(HasSubstr("unchunked holds 90 % at every rate")));
}

TEST(Sweep, DropsASetupThatFailsWhereAnotherHolds) {
  FakeLab lab = LabOf(100, 200, 80);
  const auto result = RunScenario(kScenario, Input(), lab);
  ASSERT_TRUE(result.ok()) << result.status();
  const SetupResult& slower = result->arm(kUnchunked).setups[1];
  EXPECT_TRUE(slower.dropped);
  EXPECT_LE(slower.runs.size(), 2u);
}

TEST(Sweep, CutsHopelessRunsShort) {
  FakeLab lab = LabOf(100, 2000, 80);
  SweepInput input = Input();
  const auto result = RunScenario(kScenario, input, lab);
  ASSERT_TRUE(result.ok()) << result.status();
  const auto& runs = result->arm(kUnchunked).chosen().runs;
  EXPECT_TRUE(std::any_of(runs.begin(), runs.end(), [](const Measured& run) {
    return run.cut_short && run.observation.good.size() < 200;
  }));
}

TEST(Sweep, EndsInItsTimeAndSaysWhereItHadToStop) {
  FakeLab lab = LabOf(100, 200, 80);
  SweepInput input = Input();
  input.effort.time_limit = absl::Minutes(30);
  input.effort.scale_curve = false;
  const auto result = RunScenario(kScenario, input, lab);
  ASSERT_TRUE(result.ok()) << result.status();
  // One run may end after the limit, and each takes about 400 s.
  EXPECT_LT(result->took_s, 1800 + 3 * 500);
  bool stopped = false;
  for (const ArmResult& arm : result->arms) {
    for (const SetupResult& setup : arm.setups) stopped |= setup.out_of_time;
  }
  EXPECT_TRUE(stopped);
  EXPECT_THAT(Doubts(*result), Contains(HasSubstr("the time limit")));
}

TEST(Sweep, ObjectivesCanBeGiven) {
  FakeLab lab = LabOf(100, 200, 80);
  Scenario scenario = kScenario;
  scenario.slo = {.ttft_ms = 400, .tpot_ms = 9};  // no machine generates that fast
  SweepInput input = Input();
  input.effort.find_99 = input.effort.scale_curve = false;
  const auto result = RunScenario(scenario, input, lab);
  ASSERT_TRUE(result.ok()) << result.status();
  for (const ArmResult& arm : result->arms) {
    EXPECT_EQ(arm.goodput_90.value, 0) << arm.name;
    EXPECT_FALSE(arm.goodput_99.has_value()) << arm.name;
  }
}

TEST(Sweep, NamesAClusterThatDoesNotStart) {
  FakeLab lab = LabOf(100, 200, 80);
  lab.fails = true;
  EXPECT_THAT(std::string(RunScenario(kScenario, Input(), lab).status().message()),
              HasSubstr("worker ended while starting"));
}

TEST(Arms, ShareAllCoresAndTryEverySplitAndLayout) {
  const std::vector<Arm> arms = MakeArms({2, 3, 4}, {"auto"});
  ASSERT_EQ(arms.size(), 3u);
  EXPECT_EQ(arms[0].setups.size(), 2u);  // 1P+2D, 2P+1D
  for (const Arm& arm : arms) {
    for (const sweep::Setup& setup : arm.setups) {
      std::vector<int32_t> cpus;
      for (const WorkerPlan& worker : setup.workers) {
        cpus.insert(cpus.end(), worker.cpus.begin(), worker.cpus.end());
      }
      EXPECT_EQ(cpus, (std::vector<int32_t>{2, 3, 4})) << setup.name;
    }
  }
  EXPECT_EQ(arms[1].setups[0].chunked_prefill, "off");
}

TEST(Presets, AreFoundByNameAndListed) {
  EXPECT_TRUE(FindPreset("quick").ok());
  EXPECT_LE(FindPreset("quick")->effort.time_limit, absl::Minutes(9));
  const absl::Status unknown = FindPreset("qick").status();
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("quick, prompt-heavy"));
}

TEST(SweepReport, EndsWithTheLineThatScriptsRead) {
  FakeLab lab = LabOf(100, 200, 80);
  SweepReport report;
  report.scenarios.push_back(*RunScenario(kScenario, Input(), lab));
  EXPECT_THAT(RatioLine(report),
              testing::MatchesRegex("goodput_ratio unchunked=[0-9.]+ chunked=[0-9.]+"));
  EXPECT_THAT(TextTable(report), HasSubstr("loses"));
  EXPECT_THAT(SweepJson(report), HasSubstr("\"goodput_90_per_s\""));
  const auto plots = SweepPlots(report);
  EXPECT_THAT(plots, Contains(testing::Key("test-attainment.svg")));
  EXPECT_THAT(plots, Contains(testing::Key("test-slo-scale.svg")));
  EXPECT_THAT(plots.at("test-attainment.svg"), HasSubstr("disaggregated 1P+1D"));
}

}  // namespace
}  // namespace baton::sweep
