#include "router/link/traffic_log.h"

namespace baton::router {

TrafficLog::TrafficLog(const std::vector<SloClass>& classes) {
  for (const SloClass& slo_class : classes) classes_.push_back({.slo_class = slo_class});
}

void TrafficLog::OnEnd(const SloOutcome& outcome) {
  ClassCounts& counts = classes_[static_cast<size_t>(outcome.slo_class)];
  ++counts.results[static_cast<size_t>(outcome.result)];
  if (outcome.missed_stage.has_value()) ++missed_[static_cast<size_t>(*outcome.missed_stage)];
}

void TrafficLog::OnSuccess(const RequestTimings& timings) {
  if (timings.kv_bytes == 0) return;
  ClusterReport::Pair& pair =
      pairs_[{timings.prefill_worker, timings.decode_worker, timings.transport}];
  ++pair.handoffs;
  pair.bytes += timings.kv_bytes;
  pair.transfer_ms += timings.transfer_ms;
}

void TrafficLog::Report(ClusterReport* report) const {
  report->rejected = 0;
  report->classes.clear();
  for (const ClassCounts& counts : classes_) {
    ClusterReport::SloClass out{.name = counts.slo_class.name,
                                .ttft_ms = counts.slo_class.target.ttft_ms,
                                .tpot_ms = counts.slo_class.target.tpot_ms};
    for (const SloResult result : kAllSloResults) {
      out.results.emplace_back(SloResultName(result), counts.results[static_cast<size_t>(result)]);
    }
    report->rejected += counts.results[static_cast<size_t>(SloResult::kRejected)];
    report->classes.push_back(std::move(out));
  }
  report->missed.clear();
  for (const Stage stage : kAllStages) {
    report->missed.emplace_back(StageName(stage), missed_[static_cast<size_t>(stage)]);
  }
  report->pairs.clear();
  for (const auto& [names, pair] : pairs_) {
    ClusterReport::Pair out = pair;
    std::tie(out.prefill, out.decode, out.transport) = names;
    report->pairs.push_back(std::move(out));
  }
}

}  // namespace baton::router
