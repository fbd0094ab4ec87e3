#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "bench/load/report/bench_report.h"

namespace baton::load {
namespace {

using Json = nlohmann::ordered_json;

// No bound, no value: JSON has no infinity.
Json NumberOrNull(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json ToJson(const Distribution& values) {
  if (values.count == 0) return Json{{"count", 0}};
  return {{"count", values.count}, {"mean", values.mean}, {"std", values.deviation},
          {"min", values.min},     {"p50", values.p50},   {"p90", values.p90},
          {"p99", values.p99},     {"max", values.max}};
}

Json ToJson(const Attainment& attainment) {
  return {{"requests", attainment.requests},
          {"good", attainment.good},
          {"fraction", attainment.fraction()},
          {"missed",
           {{"ttft", attainment.ttft_missed},
            {"tpot", attainment.tpot_missed},
            {"both", attainment.both_missed}}},
          {"not_served", attainment.not_served},
          {"missed_by_stage", attainment.missed_by_stage}};
}

Json FailuresJson(const Summary& summary) {
  Json failures = Json::array();
  for (const auto& [reason, count] : summary.failures) {
    failures.push_back({{"reason", reason},
                        {"count", count},
                        {"first_detail", summary.failure_examples.at(reason)}});
  }
  return failures;
}

Json ToJson(const Summary& summary, const std::vector<SloClass>& classes) {
  Json json = {{"requests", summary.requests},
               {"warmup_requests", summary.warmup_requests},
               {"succeeded", summary.succeeded},
               {"failures", FailuresJson(summary)},
               {"short_outputs", summary.short_outputs},
               {"inexact_counts", summary.inexact_counts},
               {"tokens_with_the_one_before", summary.joined_tokens},
               {"prompt_tokens", summary.prompt_tokens},
               {"cached_tokens", summary.cached_tokens},
               {"output_tokens", summary.output_tokens},
               {"duration_s", summary.duration_s},
               {"offered_per_s", summary.offered_per_s},
               {"requests_per_s", summary.requests_per_s},
               {"output_tokens_per_s", summary.output_tokens_per_s},
               {"total_tokens_per_s", summary.total_tokens_per_s},
               {"peak_output_tokens_per_s", summary.peak_output_tokens_per_s},
               {"peak_in_flight", summary.peak_in_flight},
               {"ttft_ms", ToJson(summary.ttft_ms)},
               {"tpot_ms", ToJson(summary.tpot_ms)},
               {"itl_ms", ToJson(summary.itl_ms)},
               {"max_itl_ms", ToJson(summary.max_itl_ms)},
               {"gap2_ms", ToJson(summary.gap2_ms)},
               {"e2e_ms", ToJson(summary.e2e_ms)},
               {"send_late_ms", ToJson(summary.late_ms)}};
  if (!summary.has_slo) return json;
  json["goodput_per_s"] = summary.goodput_per_s;
  json["attainment"] = ToJson(summary.all);
  for (size_t i = 0; i < classes.size(); ++i) {
    json["attainment_by_class"][classes[i].name] = ToJson(summary.by_class[i]);
  }
  return json;
}

Json ToJson(const ClientOverhead& overhead) {
  return {{"cpu_s", overhead.cpu_s},
          {"wall_s", overhead.wall_s},
          {"cpu_fraction", overhead.cpu_fraction()},
          {"cpu_per_token_us", overhead.cpu_per_token_us()},
          {"loop_lag_ms", ToJson(overhead.loop_lag_ms)},
          {"read_lag_ms", ToJson(overhead.read_lag_ms)},
          {"connections", overhead.connections},
          {"reconnections", overhead.reconnections},
          {"output_tokens", overhead.output_tokens}};
}

Json ToJson(const std::vector<Bin>& bins) {
  Json json = Json::array();
  for (const Bin& bin : bins) json.push_back({bin.low, bin.high, bin.count});
  return json;
}

Json ToJson(const RequestRecord& record) {
  Json json = {{"index", record.index},
               {"class", record.slo_class},
               {"warmup", record.warmup},
               {"outcome", OutcomeName(record.outcome)},
               {"http_status", record.http_status},
               {"detail", record.detail},
               {"intended_ms", record.intended_ms},
               {"sent_ms", record.sent_ms},
               {"end_ms", record.end_ms},
               {"planned_prompt_tokens", record.prompt_tokens},
               {"asked_tokens", record.asked_tokens},
               {"output_tokens", record.output_tokens}};
  if (record.reported_prompt_tokens >= 0) json["prompt_tokens"] = record.reported_prompt_tokens;
  if (record.cached_tokens >= 0) json["cached_tokens"] = record.cached_tokens;
  if (record.output_tokens > 0) {
    json["first_ms"] = record.first_ms;
    json["last_ms"] = record.last_ms;
    json["gaps_ms"] = record.gaps_ms;
  }
  if (record.timings.has_value()) {
    const ServerTimings& timings = *record.timings;
    json["timings"] = {{"queue_ms", timings.queue_ms},
                       {"reserve_ms", timings.reserve_ms},
                       {"prefill_ms", timings.prefill_ms},
                       {"transfer_ms", timings.transfer_ms},
                       {"transfer_exposed_ms", timings.transfer_exposed_ms},
                       {"decode_queue_ms", timings.decode_queue_ms},
                       {"decode_ms", timings.decode_ms},
                       {"ttft_ms", timings.ttft_ms}};
  }
  return json;
}

Json InfoJson(const RunInfo& info) {
  return {{"command", info.command},
          {"client", "baton " + info.client_version},
          {"server", info.server_version},
          {"started_at", info.started_at},
          {"base_url", info.base_url},
          {"model", info.model},
          {"endpoint", info.endpoint},
          {"arrivals", info.arrivals},
          {"lengths", info.lengths},
          {"length_scale", info.length_scale},
          {"trace_speedup", info.trace_speedup}};
}

Json ClassesJson(const std::vector<SloClass>& classes) {
  Json json = Json::array();
  for (const SloClass& slo_class : classes) {
    json.push_back({{"name", slo_class.name},
                    {"share", slo_class.share},
                    {"ttft_ms", NumberOrNull(slo_class.slo.ttft_ms)},
                    {"tpot_ms", NumberOrNull(slo_class.slo.tpot_ms)}});
  }
  return json;
}

Json RunJson(const SeedRun& run, const std::vector<SloClass>& classes, bool with_records) {
  Json json = {{"seed", run.seed},
               {"planned_per_s", run.planned_per_s},
               {"interrupted", run.result.interrupted},
               {"overlong_dropped", run.dropped},
               {"overlong_clipped", run.clipped},
               {"summary", ToJson(run.summary, classes)},
               {"client", ToJson(run.result.overhead)}};
  if (with_records) {
    json["records"] = Json::array();
    for (const RequestRecord& record : run.result.records) {
      json["records"].push_back(ToJson(record));
    }
  }
  return json;
}

}  // namespace

LengthHistograms HistogramsOf(const BenchReport& report) {
  std::vector<double> prompt, output;
  for (const SeedRun& run : report.runs) {
    for (const RequestRecord& record : run.result.records) {
      if (record.warmup) continue;
      prompt.push_back(record.prompt_tokens);
      output.push_back(record.asked_tokens);
    }
  }
  return {Histogram(prompt), Histogram(output)};
}

std::string JsonReport(const BenchReport& report, bool with_records) {
  Json json = InfoJson(report.info);
  json["notes"] = Warnings(report);
  json["classes"] = ClassesJson(report.classes);
  const LengthHistograms lengths = HistogramsOf(report);
  json["length_histogram"] = {{"prompt", ToJson(lengths.prompt)},
                              {"output", ToJson(lengths.output)}};
  json["summary"] = ToJson(report.pooled, report.classes);
  json["runs"] = Json::array();
  for (const SeedRun& run : report.runs) {
    json["runs"].push_back(RunJson(run, report.classes, with_records));
  }
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace baton::load
