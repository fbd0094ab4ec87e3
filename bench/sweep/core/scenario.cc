#include "bench/sweep/core/scenario.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "bench/load/core/lengths.h"
#include "common/check.h"

namespace baton::sweep {
namespace {

// Scales bring the means of the traces to a few hundred prompt tokens, which is what a core
// prefills in a fraction of a second. Means, prompt/output: Azure conv 1155/211, code 2048/28,
// Mooncake conversation 12035/343.
const Scenario kPromptHeavy{.name = "prompt-heavy", .lengths = "fixed:512/64"};
const Scenario kDecodeHeavy{.name = "decode-heavy", .lengths = "fixed:64/256"};
const Scenario kAzureConv{
    .name = "azure-conv", .lengths = "trace", .trace = "azure_conv_2023.csv", .length_scale = 0.25};
const Scenario kAzureCode{
    .name = "azure-code", .lengths = "trace", .trace = "azure_code_2023.csv", .length_scale = 0.25};
const Scenario kMooncake{.name = "mooncake",
                         .lengths = "trace",
                         .trace = "mooncake_conversation.jsonl",
                         .length_scale = 0.03125};

Preset Single(const std::string& summary, const Scenario& scenario) {
  return {.name = scenario.name,
          .summary = summary,
          .scenarios = {scenario},
          .chunks = {"auto", "16", "64", "256"},
          .effort = {}};
}

std::vector<Preset> MakePresets() {
  std::vector<Preset> presets;
  presets.push_back(
      {.name = "quick",
       .summary = "prompt-heavy in less than 10 minutes: few requests, wide intervals",
       .scenarios = {kPromptHeavy},
       .chunks = {"auto", "32"},
       .effort = {.point = absl::Seconds(20),
                  .least_requests = 12,
                  .most_requests = 200,
                  .uncontended_requests = 5,
                  .tolerance = 0.2,
                  .find_99 = false,
                  .scale_curve = false,
                  .time_limit = absl::Minutes(8)}});
  presets.push_back(Single("512 prompt tokens, 64 output tokens", kPromptHeavy));
  presets.push_back(Single("64 prompt tokens, 256 output tokens", kDecodeHeavy));
  presets.push_back(Single("lengths of Azure's conversations, a quarter", kAzureConv));
  presets.push_back(Single("lengths of Azure's code completions, a quarter", kAzureCode));
  presets.push_back(Single("Mooncake's conversations with their shared prefixes, 1/32", kMooncake));
  Preset full = Single("all of the above", kPromptHeavy);
  full.name = "full";
  full.scenarios = {kPromptHeavy, kDecodeHeavy, kAzureConv, kAzureCode, kMooncake};
  presets.push_back(full);
  return presets;
}

}  // namespace

const std::vector<Preset>& Presets() {
  static const auto* const presets = new std::vector<Preset>(MakePresets());
  return *presets;
}

absl::StatusOr<Preset> FindPreset(const std::string& name) {
  std::string names;
  for (const Preset& preset : Presets()) {
    if (preset.name == name) return preset;
    absl::StrAppend(&names, names.empty() ? "" : ", ", preset.name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("preset: there is no \"", name, "\"; there are ", names));
}

absl::StatusOr<load::WorkloadSpec> WorkloadOf(const Scenario& scenario, const load::Slo& slo,
                                              double rate_per_s) {
  load::WorkloadSpec spec;
  ASSIGN_OR_RETURN(spec.lengths, load::ParseLengths(scenario.lengths));
  spec.arrivals.kind = load::ArrivalKind::kPoisson;
  spec.arrivals.rate_per_s = rate_per_s;
  spec.classes = {load::SloClass{.name = "", .share = 1, .slo = slo}};
  spec.length_scale = scenario.length_scale;
  spec.overlong = load::Overlong::kClip;
  return spec;
}

}  // namespace baton::sweep
