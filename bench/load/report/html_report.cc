#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "bench/load/report/bench_report.h"
#include "bench/load/report/page.h"
#include "common/strings.h"

namespace baton::load {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostPoints = 4000;
constexpr size_t kCdfPoints = 400;

double Rounded(double value) { return std::round(value * 1000) / 1000; }

// Values at equal steps of the cumulative share, both ends included.
Json CdfJson(std::vector<double> samples) {
  Json json = Json::array();
  if (samples.empty()) return json;
  std::sort(samples.begin(), samples.end());
  const size_t points = std::clamp<size_t>(samples.size(), 2, kCdfPoints);
  for (size_t i = 0; i < points; ++i) {
    const double percent = 100.0 * static_cast<double>(i) / static_cast<double>(points - 1);
    json.push_back(Rounded(Percentile(samples, percent)));
  }
  return json;
}

Json CdfsJson(const BenchReport& report) {
  std::vector<double> ttft, tpot, itl, e2e;
  for (const SeedRun& run : report.runs) {
    for (const RequestRecord& record : run.result.records) {
      if (record.warmup || record.outcome != Outcome::kOk) continue;
      ttft.push_back(record.ttft_ms());
      e2e.push_back(record.e2e_ms());
      if (const auto value = record.tpot_ms()) tpot.push_back(*value);
      itl.insert(itl.end(), record.gaps_ms.begin(), record.gaps_ms.end());
    }
  }
  return {{"ttft_ms", CdfJson(std::move(ttft))},
          {"tpot_ms", CdfJson(std::move(tpot))},
          {"itl_ms", CdfJson(std::move(itl))},
          {"e2e_ms", CdfJson(std::move(e2e))}};
}

// [s, TTFT ms, judgement, prompt tokens, output tokens] of the first seed.
Json PointsJson(const std::vector<RequestRecord>& records, const std::vector<SloClass>& classes,
                size_t every) {
  Json json = Json::array();
  for (size_t i = 0; i < records.size(); i += every) {
    const RequestRecord& record = records[i];
    if (record.warmup) continue;
    const Slo& slo = classes[static_cast<size_t>(record.slo_class)].slo;
    const Judgement judgement = Judge(record, slo);
    const bool served = judgement != Judgement::kNotServed;
    json.push_back({Rounded(record.intended_ms / 1000), served ? Rounded(record.ttft_ms()) : 0.0,
                    static_cast<int>(judgement), record.prompt_tokens, record.output_tokens});
  }
  return json;
}

// [s, arrivals/s, in flight, output tokens/s] in equal bins.
Json FlowJson(const std::vector<RequestRecord>& records, double last_s) {
  const size_t bins = std::clamp<size_t>(records.size() / 6, 20, 200);
  const double width_s = std::max(last_s, 1e-3) / static_cast<double>(bins);
  std::vector<int64_t> arrivals(bins), ends(bins), tokens(bins);  // [bins]
  const auto bin_of = [&](double at_ms) {
    return std::min(bins - 1, static_cast<size_t>(std::max(at_ms, 0.0) / 1000 / width_s));
  };
  for (const RequestRecord& record : records) {
    ++arrivals[bin_of(record.intended_ms)];
    ++ends[bin_of(record.end_ms)];
    if (record.output_tokens == 0) continue;
    double at_ms = record.first_ms;
    ++tokens[bin_of(at_ms)];
    for (const float gap_ms : record.gaps_ms) ++tokens[bin_of(at_ms += gap_ms)];
  }
  Json json = Json::array();
  int64_t in_flight = 0;
  for (size_t i = 0; i < bins; ++i) {
    in_flight += arrivals[i];
    json.push_back({Rounded((static_cast<double>(i) + 0.5) * width_s),
                    Rounded(static_cast<double>(arrivals[i]) / width_s), in_flight,
                    Rounded(static_cast<double>(tokens[i]) / width_s)});
    in_flight -= ends[i];
  }
  return json;
}

// [s, s, requests, good, seed's place] of windows of equal length by intended send time: how
// attainment goes with the load of the moment.
Json WindowsJson(const BenchReport& report) {
  Json json = Json::array();
  for (size_t run = 0; run < report.runs.size(); ++run) {
    const std::vector<RequestRecord>& records = report.runs[run].result.records;
    const auto measured = std::find_if(records.begin(), records.end(),
                                       [](const RequestRecord& record) { return !record.warmup; });
    if (measured == records.end()) continue;
    const double from_ms = measured->intended_ms;
    const double span_ms = std::max(records.back().intended_ms - from_ms, 1.0);
    const auto count = static_cast<size_t>(records.end() - measured);
    std::vector<Attainment> windows(std::clamp<size_t>(count / 12, 1, 40));
    const double width_ms = span_ms / static_cast<double>(windows.size());
    for (auto record = measured; record != records.end(); ++record) {
      const auto at = static_cast<size_t>((record->intended_ms - from_ms) / width_ms);
      Attainment& window = windows[std::min(at, windows.size() - 1)];
      const Slo& slo = report.classes[static_cast<size_t>(record->slo_class)].slo;
      ++window.requests;
      if (Judge(*record, slo) == Judgement::kGood) ++window.good;
    }
    for (size_t i = 0; i < windows.size(); ++i) {
      const double start_ms = from_ms + static_cast<double>(i) * width_ms;
      json.push_back({Rounded(start_ms / 1000), Rounded((start_ms + width_ms) / 1000),
                      windows[i].requests, windows[i].good, run});
    }
  }
  return json;
}

}  // namespace

std::string HtmlReport(const BenchReport& report) {
  const std::vector<RequestRecord>& records = report.runs.front().result.records;
  double last_s = 0;
  for (const RequestRecord& record : records) last_s = std::max(last_s, record.end_ms / 1000);
  const size_t every = records.size() / kMostPoints + 1;
  Json data = Json::parse(JsonReport(report, /*with_records=*/false));
  data["cdf"] = CdfsJson(report);
  data["points"] = PointsJson(records, report.classes, every);
  data["points_every"] = every;
  data["windows"] = WindowsJson(report);
  data["flow"] = FlowJson(records, last_s);
  data["last_s"] = Rounded(last_s);
  // Nothing in the data may end the script element that holds it.
  const std::string json = absl::StrReplaceAll(
      data.dump(-1, ' ', false, Json::error_handler_t::replace), {{"<", "\\u003c"}});
  return absl::StrReplaceAll(
      View(kReportPage),
      {{"{{DATA}}", json}, {"{{SCRIPT}}", absl::StrCat(View(kReportPlots), View(kReportScript))}});
}

}  // namespace baton::load
