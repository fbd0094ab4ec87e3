// The figures of a run, from its records. Pure, so that one run can be judged under many SLOs.
//
// Definitions (docs/benchmarks.md): TTFT from the intended send time to the first event with a
// token; TPOT = (last - first)/(n - 1); ITL each gap between tokens; E2E from the intended send
// time to the end; gap 2 from the first to the second token. A request is good when it ended well
// and meets both objectives; with one token it has no TPOT and TTFT alone judges it.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "bench/load/core/record.h"
#include "bench/load/core/slo.h"
#include "bench/load/core/stats.h"

namespace baton::load {

// How the measured requests of one class, or of all, fared against their SLO.
struct Attainment {
  int64_t requests = 0;
  int64_t good = 0;
  int64_t ttft_missed = 0;  // only TTFT
  int64_t tpot_missed = 0;  // only TPOT
  int64_t both_missed = 0;
  int64_t not_served = 0;  // rejected, failed, timed out, aborted
  // Misses by the stage that spent the most of the budget, where the server tells its timings:
  // queue, reserve, prefill or network for TTFT; transfer, decode_queue or decode for TPOT alone.
  std::map<std::string, int64_t> missed_by_stage;

  double fraction() const {
    return requests == 0 ? 0 : static_cast<double>(good) / static_cast<double>(requests);
  }
};

enum class Judgement { kGood, kTtftMissed, kTpotMissed, kBothMissed, kNotServed };
Judgement Judge(const RequestRecord& record, const Slo& slo);
// "" when the record has no timings or misses nothing.
std::string MissedStage(const RequestRecord& record, Judgement judgement);

struct Summary {
  int64_t requests = 0;         // measured
  int64_t warmup_requests = 0;  // left out of everything below
  int64_t succeeded = 0;
  std::map<std::string, int64_t> failures;              // by Reason()
  std::map<std::string, std::string> failure_examples;  // the first detail of each reason
  int64_t short_outputs = 0;   // ended well with fewer tokens than asked for
  int64_t inexact_counts = 0;  // tokens counted by events
  int64_t joined_tokens = 0;   // tokens that came together with the one before
  int64_t prompt_tokens = 0;   // of requests that ended well: as told by the server, else planned
  int64_t cached_tokens = 0;
  int64_t output_tokens = 0;

  double duration_s = 0;     // first intended send time to the last end
  double offered_per_s = 0;  // intended
  double requests_per_s = 0;
  double output_tokens_per_s = 0;
  double total_tokens_per_s = 0;
  int64_t peak_in_flight = 0;
  double peak_output_tokens_per_s = 0;  // the best whole second

  Distribution ttft_ms, tpot_ms, itl_ms, e2e_ms;
  Distribution gap2_ms;     // first to second token
  Distribution max_itl_ms;  // the largest gap of each request
  Distribution late_ms;     // how much later than intended the client sent

  bool has_slo = false;
  double goodput_per_s = 0;
  Attainment all;
  std::vector<Attainment> by_class;  // [classes]
};

Summary Summarize(std::span<const RequestRecord> records, const std::vector<SloClass>& classes);

// Several runs of one workload as one: distributions and counts over all their requests, rates over
// the sum of their durations, peaks the highest of any.
Summary SummarizeRepeats(const std::vector<std::span<const RequestRecord>>& runs,
                         const std::vector<SloClass>& classes);

}  // namespace baton::load
