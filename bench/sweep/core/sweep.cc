#include "bench/sweep/core/sweep.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"
#include "bench/load/core/stats.h"
#include "bench/sweep/core/rate_search.h"
#include "common/check.h"

namespace baton::sweep {
namespace {

// Routers take no shorter one; toy models are quicker.
constexpr double kLeastObjectiveMs = 0.1;
constexpr double kLevel90 = 0.9;
constexpr double kLevel99 = 0.99;
// A run ends early once this many times the misses that 90 % allows have been seen.
constexpr double kHopeless = 2.5;
constexpr uint64_t kSeedStep = 1000;  // between repeats; runs of one search count up by one

class Sweep {
 public:
  Sweep(const Scenario& scenario, const SweepInput& input, Lab& lab)
      : input_(input), lab_(lab), start_(lab.Now()) {
    result_.scenario = scenario;
  }

  absl::StatusOr<ScenarioResult> Run() {
    for (const Arm& arm : input_.arms) {
      ArmResult& result = result_.arms.emplace_back();
      result.name = arm.name;
      for (const Setup& setup : arm.setups) result.setups.push_back({.name = setup.name});
    }
    RETURN_IF_ERROR(SetObjectives());
    for (size_t i = 0; i < input_.arms.size(); ++i) RETURN_IF_ERROR(SearchArm(i));
    for (ArmResult& arm : result_.arms) Conclude(&arm);
    if (input_.effort.scale_curve) RETURN_IF_ERROR(DrawScaleCurve());
    result_.took_s = absl::ToDoubleSeconds(lab_.Now() - start_);
    return std::move(result_);
  }

 private:
  absl::StatusOr<load::LoadPlan> Plan(double rate, int64_t requests, int64_t warmup,
                                      uint64_t seed) const {
    ASSIGN_OR_RETURN(load::WorkloadSpec spec, WorkloadOf(result_.scenario, result_.slo, rate));
    spec.limit.max_requests = requests;
    spec.warmup_requests = warmup;
    spec.max_model_len = max_model_len_;
    return load::BuildPlan(spec, input_.trace, seed);
  }

  absl::Status SetObjectives();
  absl::Status MeasureUncontended(const Setup& setup, SetupResult* result);
  absl::Status SearchArm(size_t arm);
  absl::Status SearchSetup(const Setup& setup, absl::Time until, double first_rate, double to_beat,
                           SetupResult* result);
  absl::Status Refine(const Setup& setup, absl::Time until, SetupResult* result);
  absl::StatusOr<Measured> Measure(Cluster& cluster, double rate, uint64_t seed);
  absl::Status MeasureInto(Cluster& cluster, double rate, uint64_t seed, SetupResult* result);
  void Conclude(ArmResult* arm) const;
  absl::Status DrawScaleCurve();
  // When the search of this arm must end, so that those after it have their share of the time.
  absl::Time EndOfShare(size_t arm) const;

  SearchOptions Search(double first_rate) const {
    return {.first_rate_per_s = first_rate, .tolerance = input_.effort.tolerance};
  }
  template <typename... Args>
  void Log(const absl::FormatSpec<Args...>& format, const Args&... args) const {
    if (input_.log) input_.log(absl::StrFormat(format, args...));
  }

  const SweepInput& input_;
  Lab& lab_;
  const absl::Time start_;
  ScenarioResult result_;
  double first_rate_ = 1;
  int32_t max_model_len_ = 0;
};

std::vector<Observation> ObservationsOf(const SetupResult& setup) {
  std::vector<Observation> observations;
  observations.reserve(setup.runs.size());
  for (const Measured& run : setup.runs) observations.push_back(run.observation);
  return observations;
}

double GoodputOf(const SetupResult& setup) {
  return GoodputCurve(ObservationsOf(setup)).Crossing(kLevel90);
}

absl::Status Sweep::SetObjectives() {
  double ttft_ms = 0;
  double mean_ttft_ms = 0;
  double tpot_ms = 0;
  for (size_t i = 0; i < input_.arms.size(); ++i) {
    for (size_t k = 0; k < input_.arms[i].setups.size(); ++k) {
      // Alone on the machine, chunking makes no difference worth the time.
      if (input_.arms[i].name == kChunked) continue;
      SetupResult& setup = result_.arms[i].setups[k];
      RETURN_IF_ERROR(MeasureUncontended(input_.arms[i].setups[k], &setup));
      ttft_ms = std::max(ttft_ms, setup.uncontended_ttft_ms);
      mean_ttft_ms = std::max(mean_ttft_ms, setup.uncontended_ttft_mean_ms);
      tpot_ms = std::max(tpot_ms, setup.uncontended_tpot_ms);
    }
  }
  const Scenario& scenario = result_.scenario;
  const bool given = std::isfinite(scenario.slo.ttft_ms) || std::isfinite(scenario.slo.tpot_ms);
  // Of the slowest setup, so that each of them can meet its objectives.
  result_.slo =
      given ? scenario.slo
            : load::Slo{.ttft_ms = std::max(kLeastObjectiveMs, scenario.ttft_multiple * ttft_ms),
                        .tpot_ms = std::max(kLeastObjectiveMs, scenario.tpot_multiple * tpot_ms)};
  first_rate_ = 500 / mean_ttft_ms;
  Log("objectives: TTFT %.0f ms, TPOT %.2f ms", result_.slo.ttft_ms, result_.slo.tpot_ms);
  return absl::OkStatus();
}

absl::Status Sweep::MeasureUncontended(const Setup& setup, SetupResult* result) {
  ASSIGN_OR_RETURN(const auto cluster, lab_.Start(setup, load::Slo{}, /*admission=*/false));
  max_model_len_ = cluster->max_model_len();
  ASSIGN_OR_RETURN(const load::LoadPlan plan,
                   Plan(/*rate=*/1, input_.effort.uncontended_requests, /*warmup=*/1, input_.seed));
  std::vector<double> ttft_ms;
  std::vector<double> tpot_ms;
  for (const load::PlannedRequest& request : plan.requests) {
    load::LoadPlan one = plan;
    one.requests = {request};
    one.requests.front().at = absl::ZeroDuration();
    ASSIGN_OR_RETURN(const auto records, cluster->Run(one, [](const auto&) { return true; }));
    const load::RequestRecord& record = records.front();
    if (record.outcome != load::Outcome::kOk) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "%s: a lone request failed: %s %s", setup.name, load::Reason(record), record.detail));
    }
    if (request.warmup) continue;
    ttft_ms.push_back(record.ttft_ms());
    if (record.tpot_ms()) tpot_ms.push_back(*record.tpot_ms());
  }
  const load::Distribution ttft = load::Describe(std::move(ttft_ms));
  result->uncontended_ttft_ms = ttft.p90;
  result->uncontended_ttft_mean_ms = ttft.mean;
  result->uncontended_tpot_ms = load::Describe(std::move(tpot_ms)).p50;
  Log("%s alone: TTFT p90 %.0f ms, TPOT p50 %.2f ms", setup.name, result->uncontended_ttft_ms,
      result->uncontended_tpot_ms);
  return absl::OkStatus();
}

absl::Time Sweep::EndOfShare(size_t arm) const {
  if (input_.effort.time_limit == absl::InfiniteDuration()) return absl::InfiniteFuture();
  const absl::Duration left = start_ + input_.effort.time_limit - lab_.Now();
  const auto arms_left = static_cast<double>(input_.arms.size() - arm);
  return lab_.Now() + left / (arms_left + (input_.effort.scale_curve ? 1 : 0));
}

absl::Status Sweep::SearchArm(size_t arm) {
  ArmResult& result = result_.arms[arm];
  const absl::Time until = EndOfShare(arm);
  double best_rate = 0;
  for (size_t i = 0; i < result.setups.size(); ++i) {
    SetupResult& setup = result.setups[i];
    Log("%s %s", result.name, setup.name);
    const double first = best_rate > 0 ? best_rate : first_rate_;
    RETURN_IF_ERROR(SearchSetup(input_.arms[arm].setups[i], until, first, best_rate, &setup));
    if (const double rate = GoodputOf(setup); rate > best_rate) {
      best_rate = rate;
      result.best = i;
    }
  }
  return Refine(input_.arms[arm].setups[result.best], until, &result.setups[result.best]);
}

// `to_beat`: a setup that fails at this rate cannot be the best one.
absl::Status Sweep::SearchSetup(const Setup& setup, absl::Time until, double first_rate,
                                double to_beat, SetupResult* result) {
  if (lab_.Now() >= until) {
    result->out_of_time = true;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const auto cluster, lab_.Start(setup, result_.slo, /*admission=*/true));
  while (true) {
    const auto rate = NextRate(ObservationsOf(*result), kLevel90, Search(first_rate));
    if (!rate) return absl::OkStatus();
    if (lab_.Now() >= until) {
      result->out_of_time = true;
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(MeasureInto(*cluster, *rate, input_.seed + result->runs.size(), result));
    const Observation& last = result->runs.back().observation;
    if (to_beat > 0 && last.rate_per_s <= to_beat && last.share() < kLevel90) {
      result->dropped = true;
      return absl::OkStatus();
    }
  }
}

// The best setup again: the 99 % level, and other seeds around the crossing of 90 %.
absl::Status Sweep::Refine(const Setup& setup, absl::Time until, SetupResult* result) {
  const Effort& effort = input_.effort;
  if ((!effort.find_99 && effort.seeds <= 1) || lab_.Now() >= until) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto cluster, lab_.Start(setup, result_.slo, /*admission=*/true));
  while (effort.find_99 && lab_.Now() < until) {
    const auto rate = NextRate(ObservationsOf(*result), kLevel99, Search(first_rate_));
    if (!rate) break;
    RETURN_IF_ERROR(MeasureInto(*cluster, *rate, input_.seed + result->runs.size(), result));
  }
  for (int32_t i = 1; i < effort.seeds; ++i) {
    const Bracket bracket = BracketOf(ObservationsOf(*result), kLevel90);
    for (const double rate : {bracket.low_per_s, bracket.high_per_s}) {
      if (rate <= 0 || lab_.Now() >= until) continue;
      const uint64_t seed = input_.seed + kSeedStep * static_cast<uint64_t>(i);
      RETURN_IF_ERROR(MeasureInto(*cluster, rate, seed + result->runs.size(), result));
    }
  }
  return absl::OkStatus();
}

absl::Status Sweep::MeasureInto(Cluster& cluster, double rate, uint64_t seed, SetupResult* result) {
  ASSIGN_OR_RETURN(Measured run, Measure(cluster, rate, seed));
  Log("  %.3f/s: %.1f %% of %d good; TTFT p90 %.0f ms, TPOT p90 %.2f ms%s", rate,
      100 * run.observation.share(), run.observation.good.size(), run.summary.ttft_ms.p90,
      run.summary.tpot_ms.p90, run.cut_short ? " (cut short)" : "");
  result->runs.push_back(std::move(run));
  return absl::OkStatus();
}

absl::StatusOr<Measured> Sweep::Measure(Cluster& cluster, double rate, uint64_t seed) {
  const Effort& effort = input_.effort;
  const auto wished = static_cast<int64_t>(std::ceil(rate * absl::ToDoubleSeconds(effort.point)));
  const int64_t requests = std::clamp(wished, effort.least_requests, effort.most_requests);
  ASSIGN_OR_RETURN(const load::LoadPlan plan, Plan(rate, requests, requests / 10 + 2, seed));
  const double most_misses = kHopeless * (1 - kLevel90) * static_cast<double>(requests);
  double misses = 0;
  Measured run;
  run.observation = {.rate_per_s = rate, .seed = seed, .good = {}};
  ASSIGN_OR_RETURN(std::vector<load::RequestRecord> records,
                   cluster.Run(plan, [&](const load::RequestRecord& record) {
                     if (record.warmup) return true;
                     if (Judge(record, result_.slo) != load::Judgement::kGood) ++misses;
                     run.cut_short = misses > most_misses;
                     return !run.cut_short;
                   }));
  std::erase_if(records, [](const load::RequestRecord& record) {
    return record.outcome == load::Outcome::kAborted;
  });
  for (const load::RequestRecord& record : records) {
    if (record.warmup) continue;
    const bool good = Judge(record, result_.slo) == load::Judgement::kGood;
    run.observation.good.push_back(good ? 1 : 0);
  }
  run.summary = load::Summarize(records, plan.classes);
  return run;
}

void Sweep::Conclude(ArmResult* arm) const {
  const std::vector<Observation> observations = ObservationsOf(arm->chosen());
  const GoodputCurve curve(observations);
  arm->resamples_90 = ResampleCrossings(observations, kLevel90, input_.seed);
  arm->goodput_90 = WithInterval(curve.Crossing(kLevel90), arm->resamples_90);
  if (input_.effort.find_99) {
    arm->goodput_99 = WithInterval(curve.Crossing(kLevel99),
                                   ResampleCrossings(observations, kLevel99, input_.seed));
  }
  arm->at_least = curve.AllReach(kLevel90);
}

// All arms at the rate at which the disaggregated one holds 90 %.
absl::Status Sweep::DrawScaleCurve() {
  const double rate = result_.arm(kDisaggregated).goodput_90.value;
  if (rate <= 0) return absl::OkStatus();
  result_.scale_rate_per_s = rate;
  for (size_t i = 0; i < input_.arms.size(); ++i) {
    ArmResult& arm = result_.arms[i];
    Log("%s %s at %.3f/s without admission, for the SLO-scale curve", arm.name, arm.chosen().name,
        rate);
    ASSIGN_OR_RETURN(const auto cluster, lab_.Start(input_.arms[i].setups[arm.best], result_.slo,
                                                    /*admission=*/false));
    const auto requests =
        std::clamp(static_cast<int64_t>(rate * absl::ToDoubleSeconds(input_.effort.point)),
                   input_.effort.least_requests, input_.effort.most_requests);
    ASSIGN_OR_RETURN(const load::LoadPlan plan,
                     Plan(rate, requests, requests / 10 + 2, input_.seed));
    ASSIGN_OR_RETURN(const auto records, cluster->Run(plan, [](const auto&) { return true; }));
    for (const double scale : kScales) {
      int64_t good = 0;
      for (const load::RequestRecord& record : records) {
        if (record.warmup) continue;
        const load::Slo slo = load::Scale(result_.slo, scale);
        good += Judge(record, slo) == load::Judgement::kGood ? 1 : 0;
      }
      arm.scale_shares.push_back(static_cast<double>(good) / static_cast<double>(requests));
    }
  }
  return absl::OkStatus();
}

}  // namespace

const ArmResult& ScenarioResult::arm(const std::string& name) const {
  const auto found = std::find_if(arms.begin(), arms.end(),
                                  [&](const ArmResult& arm) { return arm.name == name; });
  BATON_CHECK(found != arms.end());
  return *found;
}

Estimate ScenarioResult::RatioOver(const std::string& name) const {
  const ArmResult& ours = arm(kDisaggregated);
  const ArmResult& theirs = arm(name);
  return RatioOf(ours.goodput_90.value, theirs.goodput_90.value, ours.resamples_90,
                 theirs.resamples_90);
}

absl::StatusOr<ScenarioResult> RunScenario(const Scenario& scenario, const SweepInput& input,
                                           Lab& lab) {
  return Sweep(scenario, input, lab).Run();
}

}  // namespace baton::sweep
