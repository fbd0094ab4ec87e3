#include "bench/load/core/summary.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/check.h"

namespace baton::load {
namespace {

void Count(Judgement judgement, const RequestRecord& record, Attainment* attainment) {
  ++attainment->requests;
  switch (judgement) {
    case Judgement::kGood:
      ++attainment->good;
      return;
    case Judgement::kTtftMissed:
      ++attainment->ttft_missed;
      break;
    case Judgement::kTpotMissed:
      ++attainment->tpot_missed;
      break;
    case Judgement::kBothMissed:
      ++attainment->both_missed;
      break;
    case Judgement::kNotServed:
      ++attainment->not_served;
      return;
  }
  const std::string stage = MissedStage(record, judgement);
  ++attainment->missed_by_stage[stage.empty() ? "unknown" : stage];
}

struct Samples {
  std::vector<double> ttft, tpot, itl, e2e, gap2, max_itl, late;
};

void AddLatencies(const RequestRecord& record, Samples* samples) {
  samples->ttft.push_back(record.ttft_ms());
  samples->e2e.push_back(record.e2e_ms());
  if (const auto tpot = record.tpot_ms()) samples->tpot.push_back(*tpot);
  if (record.gaps_ms.empty()) return;
  samples->itl.insert(samples->itl.end(), record.gaps_ms.begin(), record.gaps_ms.end());
  samples->gap2.push_back(record.gaps_ms.front());
  samples->max_itl.push_back(*std::max_element(record.gaps_ms.begin(), record.gaps_ms.end()));
}

void AddTokens(const RequestRecord& record, Summary* summary) {
  ++summary->succeeded;
  summary->output_tokens += record.output_tokens;
  summary->prompt_tokens +=
      record.reported_prompt_tokens >= 0 ? record.reported_prompt_tokens : record.prompt_tokens;
  summary->cached_tokens += std::max(record.cached_tokens, 0);
  if (record.output_tokens < record.asked_tokens) ++summary->short_outputs;
  if (!record.exact_count) ++summary->inexact_counts;
}

// Tokens in the fullest second, over all streams. Also counts tokens that came together.
void AddPeakTokens(std::span<const RequestRecord> records, Summary* summary) {
  std::map<int64_t, int64_t> by_second;
  for (const RequestRecord& record : records) {
    if (record.warmup || record.output_tokens == 0) continue;
    double at_ms = record.first_ms;
    ++by_second[static_cast<int64_t>(std::floor(at_ms / 1000))];
    for (const float gap_ms : record.gaps_ms) {
      at_ms += gap_ms;
      ++by_second[static_cast<int64_t>(std::floor(at_ms / 1000))];
      if (gap_ms == 0 && record.exact_count) ++summary->joined_tokens;
    }
  }
  for (const auto& [second, tokens] : by_second) {
    summary->peak_output_tokens_per_s =
        std::max(summary->peak_output_tokens_per_s, static_cast<double>(tokens));
  }
}

void AddPeakInFlight(std::span<const RequestRecord> records, Summary* summary) {
  std::vector<std::pair<double, int>> changes;
  for (const RequestRecord& record : records) {
    if (record.warmup) continue;
    changes.emplace_back(record.sent_ms, 1);
    changes.emplace_back(record.end_ms, -1);
  }
  std::sort(changes.begin(), changes.end());
  int64_t in_flight = 0;
  for (const auto& [at_ms, change] : changes) {
    in_flight += change;
    summary->peak_in_flight = std::max(summary->peak_in_flight, in_flight);
  }
}

// Needs the counts.
void AddRates(double first_ms, double last_intended_ms, double end_ms, Summary* summary) {
  summary->duration_s = std::max(0.0, (end_ms - first_ms) / 1000);
  if (summary->requests > 1 && last_intended_ms > first_ms) {
    summary->offered_per_s =
        static_cast<double>(summary->requests - 1) * 1000 / (last_intended_ms - first_ms);
  }
  if (summary->duration_s <= 0) return;
  const auto per_second = [&](int64_t count) {
    return static_cast<double>(count) / summary->duration_s;
  };
  summary->requests_per_s = per_second(summary->succeeded);
  summary->output_tokens_per_s = per_second(summary->output_tokens);
  summary->total_tokens_per_s = per_second(summary->output_tokens + summary->prompt_tokens);
  if (summary->has_slo) summary->goodput_per_s = per_second(summary->all.good);
}

bool HasBound(const Slo& slo) { return std::isfinite(slo.ttft_ms) || std::isfinite(slo.tpot_ms); }

}  // namespace

Judgement Judge(const RequestRecord& record, const Slo& slo) {
  if (record.outcome != Outcome::kOk) return Judgement::kNotServed;
  const bool ttft_missed = record.ttft_ms() > slo.ttft_ms;
  const bool tpot_missed = record.tpot_ms().value_or(0) > slo.tpot_ms;
  if (ttft_missed) return tpot_missed ? Judgement::kBothMissed : Judgement::kTtftMissed;
  return tpot_missed ? Judgement::kTpotMissed : Judgement::kGood;
}

std::string MissedStage(const RequestRecord& record, Judgement judgement) {
  if (!record.timings.has_value()) return "";
  const ServerTimings& timings = *record.timings;
  std::vector<std::pair<double, std::string>> stages;
  if (judgement == Judgement::kTtftMissed || judgement == Judgement::kBothMissed) {
    // What the server's own TTFT does not explain was spent between the two, or in the client.
    stages = {{timings.queue_ms, "queue"},
              {timings.reserve_ms, "reserve"},
              {timings.prefill_ms, "prefill"},
              {record.ttft_ms() - timings.ttft_ms, "network"}};
  } else if (judgement == Judgement::kTpotMissed) {
    // Of the transfer only what compute did not hide.
    stages = {{timings.decode_ms, "decode"},
              {timings.decode_queue_ms, "decode_queue"},
              {timings.transfer_exposed_ms, "transfer"}};
  }
  if (stages.empty()) return "";
  return std::max_element(stages.begin(), stages.end(),
                          [](const auto& a, const auto& b) { return a.first < b.first; })
      ->second;
}

Summary Summarize(std::span<const RequestRecord> records, const std::vector<SloClass>& classes) {
  Summary summary;
  summary.by_class.resize(classes.size());
  summary.has_slo = std::any_of(classes.begin(), classes.end(),
                                [](const SloClass& slo_class) { return HasBound(slo_class.slo); });
  Samples samples;
  double first_ms = kNoBound;
  double last_intended_ms = 0;
  double end_ms = 0;
  for (const RequestRecord& record : records) {
    if (record.warmup) {
      ++summary.warmup_requests;
      continue;
    }
    ++summary.requests;
    first_ms = std::min(first_ms, record.intended_ms);
    last_intended_ms = std::max(last_intended_ms, record.intended_ms);
    end_ms = std::max(end_ms, record.end_ms);
    samples.late.push_back(record.late_ms());
    BATON_CHECK(record.slo_class >= 0 && static_cast<size_t>(record.slo_class) < classes.size())
        << record.slo_class;
    const auto slo_class = static_cast<size_t>(record.slo_class);
    const Judgement judgement = Judge(record, classes[slo_class].slo);
    Count(judgement, record, &summary.all);
    Count(judgement, record, &summary.by_class[slo_class]);
    if (record.outcome == Outcome::kOk) {
      AddTokens(record, &summary);
      AddLatencies(record, &samples);
    } else {
      ++summary.failures[Reason(record)];
      summary.failure_examples.try_emplace(Reason(record), record.detail);
    }
  }
  AddPeakTokens(records, &summary);
  AddPeakInFlight(records, &summary);
  if (summary.requests > 0) AddRates(first_ms, last_intended_ms, end_ms, &summary);
  summary.ttft_ms = Describe(std::move(samples.ttft));
  summary.tpot_ms = Describe(std::move(samples.tpot));
  summary.itl_ms = Describe(std::move(samples.itl));
  summary.e2e_ms = Describe(std::move(samples.e2e));
  summary.gap2_ms = Describe(std::move(samples.gap2));
  summary.max_itl_ms = Describe(std::move(samples.max_itl));
  summary.late_ms = Describe(std::move(samples.late));
  return summary;
}

Summary SummarizeRepeats(const std::vector<std::span<const RequestRecord>>& runs,
                         const std::vector<SloClass>& classes) {
  if (runs.size() == 1) return Summarize(runs.front(), classes);
  std::vector<RequestRecord> records;
  double duration_s = 0;
  double offered_per_s = 0;
  int64_t peak_in_flight = 0;
  double peak_tokens_per_s = 0;
  for (const auto& run : runs) {
    const Summary summary = Summarize(run, classes);
    duration_s += summary.duration_s;
    offered_per_s += summary.offered_per_s / static_cast<double>(runs.size());
    peak_in_flight = std::max(peak_in_flight, summary.peak_in_flight);
    peak_tokens_per_s = std::max(peak_tokens_per_s, summary.peak_output_tokens_per_s);
    records.insert(records.end(), run.begin(), run.end());
  }
  Summary pooled = Summarize(records, classes);
  const double overlaid_s = std::exchange(pooled.duration_s, duration_s);
  const double correction = duration_s > 0 ? overlaid_s / duration_s : 0;
  for (double* rate : {&pooled.requests_per_s, &pooled.output_tokens_per_s,
                       &pooled.total_tokens_per_s, &pooled.goodput_per_s}) {
    *rate *= correction;
  }
  pooled.offered_per_s = offered_per_s;
  pooled.peak_in_flight = peak_in_flight;
  pooled.peak_output_tokens_per_s = peak_tokens_per_s;
  return pooled;
}

}  // namespace baton::load
