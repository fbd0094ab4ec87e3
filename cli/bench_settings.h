// The options of `baton bench serve`, and what they mean to the load generator.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/load/client/target.h"
#include "bench/load/core/workload.h"
#include "common/config.h"

namespace baton {

struct BenchSettings {
  // Server
  std::string base_url = "http://127.0.0.1:8000";
  std::string endpoint = "completions";
  std::string model;    // "": the first that the server lists
  std::string headers;  // lines
  std::string api_key;
  absl::Duration timeout = absl::Minutes(5);
  bool skip_probe = false;
  // Arrivals
  std::string arrival = "poisson";
  double rate_per_s = 0;  // 0: 1/s, or a trace's own rate
  double cv = 2;
  double ramp_to_per_s = 0;
  absl::Duration burst_on = absl::Seconds(2);
  absl::Duration burst_off = absl::Seconds(8);
  std::string trace;
  double speedup = 0;  // 0: not given
  int32_t trace_first_row = 0;
  int32_t num_requests = 0;
  absl::Duration duration;  // zero: not given
  int32_t warmup = 0;
  int32_t seed = 0;
  int32_t seeds = 1;
  // Requests
  std::string lengths;  // "": trace when one is given, else fixed:512/64
  double length_scale = 1;
  std::string overlong = "fail";
  int32_t max_model_len = 0;  // 0: ask the server
  std::string prompts = "auto";
  int32_t vocab_size = 0;  // 0: ask the server
  double temperature = 0;
  std::string extra_body;
  // Objectives
  std::string slo;
  std::string slo_classes;  // lines
  // Output
  std::string json;
  bool records = false;
  std::string html;
};

void AddBenchSettings(ConfigSchema& schema, BenchSettings* settings);
std::vector<std::string> RepeatableBenchSettings();

// What the settings say, without asking the server. Errors name the setting.
absl::StatusOr<load::Target> BenchTarget(const BenchSettings& settings);
absl::StatusOr<load::WorkloadSpec> BenchWorkload(const BenchSettings& settings);
// That the reports can be written where the settings say.
absl::Status CheckBenchOutputs(const BenchSettings& settings);

// "lognormal:512,0.8/64,0.5, scaled by 0.25", for reports.
std::string DescribeLengths(const BenchSettings& settings);

}  // namespace baton
