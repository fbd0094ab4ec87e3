#include "bench/sweep/report/sweep_report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/sweep/report/svg_plot.h"

namespace baton::sweep {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kLevel90 = 0.9;

std::string WithBounds(const Estimate& estimate, bool at_least = false) {
  return absl::StrFormat("%s%.2f [%.2f, %.2f]", at_least ? ">=" : "", estimate.value, estimate.low,
                         estimate.high);
}

// JSON has no infinity.
Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json MeasuredMs(double ms) { return ms > 0 ? Json(ms) : Json(nullptr); }

Json JsonOf(const Estimate& estimate) {
  return {{"value", Number(estimate.value)},
          {"low", Number(estimate.low)},
          {"high", Number(estimate.high)}};
}

Json JsonOf(const load::Distribution& samples) {
  return {{"mean", samples.mean},
          {"p50", samples.p50},
          {"p90", samples.p90},
          {"p99", samples.p99},
          {"max", samples.max}};
}

Json JsonOf(const Measured& run) {
  const load::Summary& summary = run.summary;
  Json missed = {{"ttft", summary.all.ttft_missed},
                 {"tpot", summary.all.tpot_missed},
                 {"both", summary.all.both_missed},
                 {"not_served", summary.all.not_served}};
  return {{"rate_per_s", run.observation.rate_per_s},
          {"seed", run.observation.seed},
          {"requests", run.observation.good.size()},
          {"good_share", run.observation.share()},
          {"cut_short", run.cut_short},
          {"missed", std::move(missed)},
          {"missed_by_stage", summary.all.missed_by_stage},
          {"ttft_ms", JsonOf(summary.ttft_ms)},
          {"tpot_ms", JsonOf(summary.tpot_ms)},
          {"itl_ms", JsonOf(summary.itl_ms)},
          {"sent_late_ms", JsonOf(summary.late_ms)}};
}

Json JsonOf(const ArmResult& arm) {
  Json setups = Json::array();
  for (const SetupResult& setup : arm.setups) {
    Json runs = Json::array();
    for (const Measured& run : setup.runs) runs.push_back(JsonOf(run));
    setups.push_back({{"name", setup.name},
                      {"uncontended_ttft_p90_ms", MeasuredMs(setup.uncontended_ttft_ms)},
                      {"uncontended_tpot_p50_ms", MeasuredMs(setup.uncontended_tpot_ms)},
                      {"dropped", setup.dropped},
                      {"out_of_time", setup.out_of_time},
                      {"runs", std::move(runs)}});
  }
  return {
      {"name", arm.name},
      {"setup", arm.chosen().name},
      {"goodput_90_per_s", JsonOf(arm.goodput_90)},
      {"goodput_90_is_lower_bound", arm.at_least},
      {"goodput_99_per_s", arm.goodput_99.has_value() ? JsonOf(*arm.goodput_99) : Json(nullptr)},
      {"scale_shares", arm.scale_shares},
      {"setups", std::move(setups)}};
}

Json JsonOf(const ScenarioResult& result) {
  Json arms = Json::array();
  Json ratios = Json::object();
  for (const ArmResult& arm : result.arms) {
    arms.push_back(JsonOf(arm));
    if (arm.name != kDisaggregated) ratios[arm.name] = JsonOf(result.RatioOver(arm.name));
  }
  const Scenario& scenario = result.scenario;
  return {
      {"name", scenario.name},
      {"lengths", scenario.lengths},
      {"trace", scenario.trace},
      {"length_scale", scenario.length_scale},
      {"slo", {{"ttft_ms", Number(result.slo.ttft_ms)}, {"tpot_ms", Number(result.slo.tpot_ms)}}},
      {"scale_rate_per_s", result.scale_rate_per_s},
      {"scales", kScales},
      {"goodput_ratio", std::move(ratios)},
      {"notes", Doubts(result)},
      {"arms", std::move(arms)},
      {"took_s", result.took_s}};
}

// The smallest measured scale with 90 % good; 0 for none.
double LeastScale(const ArmResult& arm) {
  for (size_t i = 0; i < arm.scale_shares.size(); ++i) {
    if (arm.scale_shares[i] >= kLevel90) return kScales[i];
  }
  return 0;
}

Plot AttainmentPlot(const ScenarioResult& result) {
  Plot plot{.title = absl::StrCat(result.scenario.name, ": requests that meet both objectives"),
            .x_label = "requests per second",
            .y_label = "share of requests",
            .y_mark = kLevel90,
            .series = {}};
  for (const ArmResult& arm : result.arms) {
    std::vector<Observation> observations;
    for (const Measured& run : arm.chosen().runs) observations.push_back(run.observation);
    PlotSeries series{.name = absl::StrCat(arm.name, " ", arm.chosen().name), .points = {}};
    const GoodputCurve curve(observations);
    for (const GoodputCurve::Point& point : curve.points()) {
      series.points.emplace_back(point.rate_per_s, point.share);
    }
    plot.series.push_back(std::move(series));
  }
  return plot;
}

Plot ScalePlot(const ScenarioResult& result) {
  Plot plot{.title = absl::StrFormat("%s: the same %.2f requests/s under scaled objectives",
                                     result.scenario.name, result.scale_rate_per_s),
            .x_label = "SLO scale (smaller is stricter)",
            .y_label = "share of requests",
            .log_x = true,
            .y_mark = kLevel90,
            .series = {}};
  for (const ArmResult& arm : result.arms) {
    PlotSeries series{.name = arm.name, .points = {}};
    for (size_t i = 0; i < arm.scale_shares.size(); ++i) {
      series.points.emplace_back(kScales[i], arm.scale_shares[i]);
    }
    plot.series.push_back(std::move(series));
  }
  return plot;
}

std::string RatioText(double ratio) {
  return std::isfinite(ratio) ? absl::StrFormat("%.2f", ratio) : "inf";
}

}  // namespace

std::string Verdict(const ScenarioResult& result, const std::string& arm) {
  const Estimate ratio = result.RatioOver(arm);
  if (ratio.low > 1) return result.arm(arm).at_least ? "open" : "wins";
  if (ratio.high < 1) return result.arm(kDisaggregated).at_least ? "open" : "loses";
  return "even";
}

std::vector<std::string> Doubts(const ScenarioResult& result) {
  std::vector<std::string> doubts;
  for (const ArmResult& arm : result.arms) {
    if (arm.at_least) {
      doubts.push_back(absl::StrCat(arm.name, " holds 90 % at every rate measured: its goodput is ",
                                    "a lower bound"));
    }
    int untried = 0;
    for (const SetupResult& setup : arm.setups) {
      if (setup.runs.empty()) {
        ++untried;
      } else if (setup.out_of_time) {
        doubts.push_back(
            absl::StrCat(arm.name, " ", setup.name, ": the time limit ended its search early"));
      }
    }
    if (untried > 0) {
      doubts.push_back(absl::StrFormat("%s: the time limit left %d of %d setups untried", arm.name,
                                       untried, arm.setups.size()));
    }
  }
  return doubts;
}

std::string TextTable(const SweepReport& report) {
  std::string out =
      absl::StrFormat("%-14s %-14s %-16s %20s %20s %20s  %s\n", "scenario", "arm", "best setup",
                      "goodput at 90 %/s", "at 99 %/s", "disaggregated over", "");
  for (const ScenarioResult& result : report.scenarios) {
    for (const ArmResult& arm : result.arms) {
      const bool ours = arm.name == kDisaggregated;
      const Estimate ratio = ours ? Estimate{} : result.RatioOver(arm.name);
      absl::StrAppendFormat(&out, "%-14s %-14s %-16s %20s %20s %20s  %s\n", result.scenario.name,
                            arm.name, arm.chosen().name, WithBounds(arm.goodput_90, arm.at_least),
                            arm.goodput_99.has_value() ? WithBounds(*arm.goodput_99) : "-",
                            ours ? "" : WithBounds(ratio), ours ? "" : Verdict(result, arm.name));
    }
    absl::StrAppendFormat(&out, "  objectives: TTFT %.0f ms, TPOT %.2f ms\n", result.slo.ttft_ms,
                          result.slo.tpot_ms);
    for (const std::string& doubt : Doubts(result)) {
      absl::StrAppendFormat(&out, "  note: %s\n", doubt);
    }
    for (const ArmResult& arm : result.arms) {
      if (arm.scale_shares.empty()) continue;
      const double scale = LeastScale(arm);
      absl::StrAppendFormat(&out, "  %s at %.2f/s holds 90 %% at SLO scale %s\n", arm.name,
                            result.scale_rate_per_s,
                            scale > 0 ? absl::StrFormat("%g", scale) : "above 8");
    }
  }
  return out;
}

std::string SweepJson(const SweepReport& report) {
  Json scenarios = Json::array();
  for (const ScenarioResult& result : report.scenarios) scenarios.push_back(JsonOf(result));
  const Effort& effort = report.effort;
  const Json whole = {{"command", report.command},
                      {"baton_version", report.version},
                      {"started_at", report.started_at},
                      {"model", report.model},
                      {"cpus", report.cpus},
                      {"effort",
                       {{"point_s", absl::ToDoubleSeconds(effort.point)},
                        {"least_requests", effort.least_requests},
                        {"most_requests", effort.most_requests},
                        {"seeds", effort.seeds},
                        {"tolerance", effort.tolerance}}},
                      {"scenarios", std::move(scenarios)}};
  return whole.dump(2) + "\n";
}

std::map<std::string, std::string> SweepPlots(const SweepReport& report) {
  std::map<std::string, std::string> files;
  for (const ScenarioResult& result : report.scenarios) {
    files[result.scenario.name + "-attainment.svg"] = RenderSvg(AttainmentPlot(result));
    if (result.scale_rate_per_s > 0) {
      files[result.scenario.name + "-slo-scale.svg"] = RenderSvg(ScalePlot(result));
    }
  }
  return files;
}

std::string RatioLine(const SweepReport& report) {
  const ScenarioResult& first = report.scenarios.front();
  return absl::StrCat("goodput_ratio unchunked=", RatioText(first.RatioOver(kUnchunked).value),
                      " chunked=", RatioText(first.RatioOver(kChunked).value));
}

}  // namespace baton::sweep
