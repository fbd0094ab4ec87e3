#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_replace.h"
#include "bench/load/report/bench_report.h"
#include "bench/load/report/page.h"
#include "common/strings.h"

namespace baton::load {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostPoints = 4000;
constexpr size_t kCdfPoints = 400;
constexpr size_t kFlowBins = 200;

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
  std::vector<double> ttft, tpot, itl;
  for (const SeedRun& run : report.runs) {
    for (const RequestRecord& record : run.result.records) {
      if (record.warmup || record.outcome != Outcome::kOk) continue;
      ttft.push_back(record.ttft_ms());
      if (const auto value = record.tpot_ms()) tpot.push_back(*value);
      itl.insert(itl.end(), record.gaps_ms.begin(), record.gaps_ms.end());
    }
  }
  return {{"ttft_ms", CdfJson(std::move(ttft))},
          {"tpot_ms", CdfJson(std::move(tpot))},
          {"itl_ms", CdfJson(std::move(itl))}};
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
  const double width_s = std::max(last_s, 1e-3) / kFlowBins;
  std::vector<int64_t> arrivals(kFlowBins + 1), ends(kFlowBins + 1), tokens(kFlowBins + 1);
  const auto bin_of = [&](double at_ms) {
    return std::min(kFlowBins, static_cast<size_t>(std::max(at_ms, 0.0) / 1000 / width_s));
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
  for (size_t i = 0; i < kFlowBins; ++i) {
    in_flight += arrivals[i] - ends[i];
    json.push_back({Rounded(static_cast<double>(i) * width_s),
                    Rounded(static_cast<double>(arrivals[i]) / width_s), in_flight,
                    Rounded(static_cast<double>(tokens[i]) / width_s)});
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
  data["flow"] = FlowJson(records, last_s);
  data["last_s"] = Rounded(last_s);
  // Nothing in the data may end the script element that holds it.
  const std::string json = absl::StrReplaceAll(
      data.dump(-1, ' ', false, Json::error_handler_t::replace), {{"<", "\\u003c"}});
  return absl::StrReplaceAll(View(kReportPage),
                             {{"{{DATA}}", json}, {"{{SCRIPT}}", View(kReportScript)}});
}

}  // namespace baton::load
