// What a sweep has to say: a table, JSON, plots, and the line that scripts read.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "bench/sweep/core/sweep.h"

namespace baton::sweep {

struct SweepReport {
  std::string command;
  std::string version;
  std::string started_at;  // RFC 3339
  std::string model;
  std::vector<int32_t> cpus;
  Effort effort;
  std::vector<ScenarioResult> scenarios;
};

// Of the disaggregated arm over another: "wins" or "loses" where the interval of the ratio lies on
// one side of 1, else "even"; "open" where an arm might hold more than was measured, and that would
// matter.
std::string Verdict(const ScenarioResult& result, const std::string& arm);

// What keeps a scenario's figures from being the last word, one sentence each: arms that no rate
// bounded, searches that ended by the time limit, setups that were never tried.
std::vector<std::string> Doubts(const ScenarioResult& result);

std::string TextTable(const SweepReport& report);
std::string SweepJson(const SweepReport& report);
// SVG by file name ("prompt-heavy-attainment.svg").
std::map<std::string, std::string> SweepPlots(const SweepReport& report);

// "goodput_ratio unchunked=2.10 chunked=1.05" of the first scenario; "inf" where an arm has none.
std::string RatioLine(const SweepReport& report);

}  // namespace baton::sweep
