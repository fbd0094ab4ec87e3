// Everything that a report shows, whatever its form.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bench/load/client/run_load.h"
#include "bench/load/core/summary.h"

namespace baton::load {

// One run with one seed.
struct SeedRun {
  uint64_t seed = 0;
  LoadResult result;
  Summary summary;
  double planned_per_s = 0;
  int64_t dropped = 0;  // requests too long for the model's context
  int64_t clipped = 0;
  bool shares_prefixes = false;  // the workload's prompts begin alike, as its trace says
};

// How the run came about: enough to repeat it.
struct RunInfo {
  std::string command;  // as it was typed
  std::string client_version;
  std::string server_version;  // "" when the server does not say
  std::string started_at;      // RFC 3339
  std::string base_url;
  std::string model;
  std::string endpoint;
  std::string arrivals;  // in words
  std::string lengths;   // in words, with the scale
  double trace_speedup = 1;
  double length_scale = 1;
  std::vector<std::string> notes;  // what the reader must know: scaled, clipped, given up
};

struct BenchReport {
  RunInfo info;
  std::vector<SloClass> classes;
  std::vector<SeedRun> runs;  // at least one
  Summary pooled;             // over all runs
};

// What to doubt about the figures, one sentence each; also the notes of `info`.
std::vector<std::string> Warnings(const BenchReport& report);

// Of the measured requests, as planned.
struct LengthHistograms {
  std::vector<Bin> prompt;
  std::vector<Bin> output;
};
LengthHistograms HistogramsOf(const BenchReport& report);

// The report on the terminal, in the shape of `vllm bench serve`.
std::string TextReport(const BenchReport& report);

// Everything, with `with_records` also each request and each of its gaps between tokens.
std::string JsonReport(const BenchReport& report, bool with_records);

// One page with plots that needs nothing but itself.
std::string HtmlReport(const BenchReport& report);

}  // namespace baton::load
