#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/load/report/bench_report.h"

namespace baton::load {
namespace {

constexpr int kWidth = 58;

void Rule(const std::string& title, char filler, std::string* out) {
  const std::string text = title.empty() ? "" : absl::StrCat(" ", title, " ");
  const int left = (kWidth - static_cast<int>(text.size())) / 2;
  const int right = kWidth - static_cast<int>(text.size()) - left;
  absl::StrAppend(out, std::string(static_cast<size_t>(left), filler), text,
                  std::string(static_cast<size_t>(right), filler), "\n");
}

void Line(const std::string& label, const std::string& value, std::string* out) {
  absl::StrAppendFormat(out, "%-42s %s\n", label + ":", value);
}
void Line(const std::string& label, int64_t value, std::string* out) {
  Line(label, absl::StrCat(value), out);
}
void Line(const std::string& label, double value, std::string* out) {
  Line(label, absl::StrFormat("%.2f", value), out);
}

void Latency(const std::string& title, const std::string& name, const Distribution& values,
             std::string* out) {
  Rule(title, '-', out);
  if (values.count == 0) return Line(absl::StrCat(name, " (ms)"), std::string("no sample"), out);
  Line(absl::StrCat("Mean ", name, " (ms)"), values.mean, out);
  Line(absl::StrCat("Median ", name, " (ms)"), values.p50, out);
  Line(absl::StrCat("P90 ", name, " (ms)"), values.p90, out);
  Line(absl::StrCat("P99 ", name, " (ms)"), values.p99, out);
}

std::string Bound(double bound_ms) {
  return std::isfinite(bound_ms) ? absl::StrFormat("%g ms", bound_ms) : "-";
}

std::string Percent(int64_t part, int64_t whole) {
  if (whole == 0) return "-";
  return absl::StrFormat("%.1f%%", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

void AttainmentRows(const std::string& name, const Slo* slo, const Attainment& attainment,
                    std::string* out) {
  std::string bounds;
  if (slo != nullptr) {
    bounds = absl::StrCat("  TTFT ", Bound(slo->ttft_ms), ", TPOT ", Bound(slo->tpot_ms));
  }
  absl::StrAppend(out, name, bounds, "\n");
  absl::StrAppendFormat(out, "  good %d of %d (%s)", attainment.good, attainment.requests,
                        Percent(attainment.good, attainment.requests));
  absl::StrAppendFormat(out, "; missed TTFT %d, TPOT %d, both %d; not served %d\n",
                        attainment.ttft_missed, attainment.tpot_missed, attainment.both_missed,
                        attainment.not_served);
  if (attainment.missed_by_stage.empty()) return;
  absl::StrAppend(out, "  misses by stage:");
  for (const auto& [stage, count] : attainment.missed_by_stage) {
    absl::StrAppend(out, " ", stage, " ", count);
  }
  absl::StrAppend(out, "\n");
}

void GoodputSection(const BenchReport& report, std::string* out) {
  if (!report.pooled.has_slo) return;
  Rule("Goodput", '-', out);
  Line("Request goodput (req/s)", report.pooled.goodput_per_s, out);
  const bool one = report.classes.size() == 1;
  AttainmentRows(one && !report.classes[0].name.empty() ? report.classes[0].name : "all",
                 one ? &report.classes[0].slo : nullptr, report.pooled.all, out);
  if (one) return;
  for (size_t i = 0; i < report.classes.size(); ++i) {
    AttainmentRows(report.classes[i].name, &report.classes[i].slo, report.pooled.by_class[i], out);
  }
}

void FailureSection(const Summary& summary, std::string* out) {
  if (summary.failures.empty()) return;
  Rule("Requests that were not served", '-', out);
  for (const auto& [reason, count] : summary.failures) {
    Line(reason, count, out);
    const std::string& example = summary.failure_examples.at(reason);
    if (!example.empty()) absl::StrAppend(out, "  first: ", example, "\n");
  }
}

void RepeatSection(const BenchReport& report, std::string* out) {
  if (report.runs.size() < 2) return;
  Rule(absl::StrFormat("%d seeds: mean ± 95%% interval", report.runs.size()), '-', out);
  const auto row = [&](const std::string& label, auto value_of) {
    std::vector<double> values;
    for (const SeedRun& run : report.runs) values.push_back(value_of(run.summary));
    const Interval interval = ConfidenceInterval(values);
    Line(label, absl::StrFormat("%.2f ± %.2f", interval.mean, interval.half_width), out);
  };
  row("Request throughput (req/s)", [](const Summary& s) { return s.requests_per_s; });
  row("Output token throughput (tok/s)", [](const Summary& s) { return s.output_tokens_per_s; });
  row("P99 TTFT (ms)", [](const Summary& s) { return s.ttft_ms.p99; });
  row("P99 TPOT (ms)", [](const Summary& s) { return s.tpot_ms.p99; });
  if (!report.pooled.has_slo) return;
  row("Request goodput (req/s)", [](const Summary& s) { return s.goodput_per_s; });
  row("Attainment (%)", [](const Summary& s) { return 100 * s.all.fraction(); });
}

void ClientSection(const BenchReport& report, std::string* out) {
  double cpu_s = 0, wall_s = 0, loop_lag_ms = 0, read_lag_ms = 0;
  int64_t connections = 0, reconnections = 0, tokens = 0;
  for (const SeedRun& run : report.runs) {
    const ClientOverhead& overhead = run.result.overhead;
    cpu_s += overhead.cpu_s;
    wall_s += overhead.wall_s;
    loop_lag_ms = std::max(loop_lag_ms, overhead.loop_lag_ms.p99);
    read_lag_ms = std::max(read_lag_ms, overhead.read_lag_ms.p99);
    connections += overhead.connections;
    reconnections += overhead.reconnections;
    tokens += overhead.output_tokens;
  }
  Rule("Load generator's own cost", '-', out);
  Line("Client CPU (s)",
       absl::StrFormat("%.2f (%.1f%% of one core)", cpu_s, wall_s > 0 ? 100 * cpu_s / wall_s : 0.0),
       out);
  if (tokens > 0) {
    Line("Client CPU per token (µs)", cpu_s * 1e6 / static_cast<double>(tokens), out);
  }
  Line("P99 send lateness (ms)", report.pooled.late_ms.p99, out);
  Line("Max send lateness (ms)", report.pooled.late_ms.max, out);
  Line("P99 read lag (ms)", read_lag_ms, out);
  Line("P99 loop lag (ms)", loop_lag_ms, out);
  Line("Connections opened", absl::StrFormat("%d (%d reopened)", connections, reconnections), out);
}

void ThroughputSection(const BenchReport& report, std::string* out) {
  const Summary& all = report.pooled;
  int64_t failed = 0;
  for (const auto& [reason, count] : all.failures) failed += count;
  Line("Successful requests", all.succeeded, out);
  Line("Failed requests", failed, out);
  Line("Warm-up requests (not measured)", all.warmup_requests, out);
  Line("Arrivals", report.info.arrivals, out);
  Line("Lengths (tokens in/out)", report.info.lengths, out);
  Line("Offered rate (req/s)", all.offered_per_s, out);
  Line("Benchmark duration (s)", all.duration_s, out);
  Line("Total input tokens", all.prompt_tokens, out);
  Line("Total generated tokens", all.output_tokens, out);
  Line("Request throughput (req/s)", all.requests_per_s, out);
  Line("Output token throughput (tok/s)", all.output_tokens_per_s, out);
  Line("Peak output token throughput (tok/s)", all.peak_output_tokens_per_s, out);
  Line("Peak concurrent requests", all.peak_in_flight, out);
  Line("Total token throughput (tok/s)", all.total_tokens_per_s, out);
}

// Where the client itself may be what was measured.
void WarnOfClient(const BenchReport& report, std::vector<std::string>* warnings) {
  const Distribution& late_ms = report.pooled.late_ms;
  if (late_ms.p99 > 10) {
    warnings->push_back(absl::StrFormat(
        "The client sent late (p99 %.1f ms): it limits the run, or its cores are taken by the "
        "server.",
        late_ms.p99));
  }
  double read_lag_ms = 0, cpu_fraction = 0;
  for (const SeedRun& run : report.runs) {
    read_lag_ms = std::max(read_lag_ms, run.result.overhead.read_lag_ms.p99);
    cpu_fraction = std::max(cpu_fraction, run.result.overhead.cpu_fraction());
  }
  if (read_lag_ms > 5) {
    warnings->push_back(absl::StrFormat(
        "The client read late (p99 %.1f ms): latencies are too long by up to this.", read_lag_ms));
  }
  if (cpu_fraction > 0.8) {
    warnings->push_back(absl::StrFormat(
        "The client used %.0f%% of its one core: it limits the run.", 100 * cpu_fraction));
  }
}

}  // namespace

std::vector<std::string> Warnings(const BenchReport& report) {
  const Summary& all = report.pooled;
  std::vector<std::string> warnings = report.info.notes;
  const auto warn = [&](std::string text) { warnings.push_back(std::move(text)); };
  for (const SeedRun& run : report.runs) {
    if (run.result.interrupted) warn("The run was interrupted; the figures cover what was sent.");
  }
  if (report.runs.front().dropped > 0) {
    warn(absl::StrFormat("%d requests were too long for the model and left out.",
                         report.runs.front().dropped));
  }
  if (report.runs.front().clipped > 0) {
    warn(absl::StrFormat("%d requests were too long for the model and shortened.",
                         report.runs.front().clipped));
  }
  if (all.cached_tokens > 0 && !report.runs.front().shares_prefixes) {
    warn(absl::StrFormat(
        "%d of %d prompt tokens came from the server's prefix cache, though the workload shares "
        "none: the server has seen this seed's prompts before (give another --seed).",
        all.cached_tokens, all.prompt_tokens));
  }
  if (all.short_outputs > 0) {
    warn(absl::StrFormat("%d answers were shorter than asked for: does the server heed ignore_eos?",
                         all.short_outputs));
  }
  if (all.inexact_counts > 0) {
    warn(absl::StrFormat("%d answers came without usage: their events were counted as tokens.",
                         all.inexact_counts));
  }
  WarnOfClient(report, &warnings);
  return warnings;
}

std::string TextReport(const BenchReport& report) {
  const Summary& all = report.pooled;
  std::string out;
  Rule("Serving Benchmark Result", '=', &out);
  ThroughputSection(report, &out);
  Latency("Time to First Token", "TTFT", all.ttft_ms, &out);
  Latency("Time per Output Token (excl. 1st token)", "TPOT", all.tpot_ms, &out);
  Latency("Inter-token Latency", "ITL", all.itl_ms, &out);
  if (all.itl_ms.count > 0) {
    Line("Max ITL (ms)", all.itl_ms.max, &out);
    Line("Median gap 2, first to second token (ms)", all.gap2_ms.p50, &out);
    Line("P99 gap 2 (ms)", all.gap2_ms.p99, &out);
  }
  Latency("End-to-end Latency", "E2EL", all.e2e_ms, &out);
  GoodputSection(report, &out);
  FailureSection(all, &out);
  RepeatSection(report, &out);
  ClientSection(report, &out);
  Rule("", '=', &out);
  for (const std::string& warning : Warnings(report))
    absl::StrAppend(&out, "note: ", warning, "\n");
  return out;
}

}  // namespace baton::load
