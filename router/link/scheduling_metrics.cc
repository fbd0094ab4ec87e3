#include "router/link/scheduling_metrics.h"

#include <cmath>

namespace baton::router {
namespace {

std::vector<double> ErrorBuckets() { return {.02, .05, .1, .15, .2, .3, .5, .75, 1, 2, 5}; }

void ObserveError(Histogram* histogram, std::optional<double> predicted, double actual) {
  if (predicted.has_value() && actual > 0) {
    histogram->Observe(std::abs(*predicted - actual) / actual);
  }
}

}  // namespace

SchedulingMetrics::SchedulingMetrics(MetricRegistry& registry) {
  for (const Path path : kAllPaths) {
    placements_[path] = registry.AddCounter("router_placements_total",
                                            "Dispatches, by the way that the request went.",
                                            {{"path", std::string(PathName(path))}});
  }
  for (const Verdict verdict : kAllVerdicts) {
    verdicts_[verdict] = registry.AddCounter(
        "router_admission_total", "Requests that ended, by what admission had said of them.",
        {{"verdict", std::string(VerdictName(verdict))}});
  }
  resyncs_ = registry.AddCounter("router_kv_resyncs_total",
                                 "Times that a worker's KV events were lost and asked for anew.");
  prefix_entries_ = registry.AddGauge("router_prefix_index_entries",
                                      "Pairs of a worker and a block that its prefix cache holds.");
  for (const Role role : {Role::kPrefill, Role::kDecode, Role::kBoth}) {
    workers_ejected_[role] =
        registry.AddGauge("workers_ejected", "Live workers out of service for being slow, by role.",
                          {{"role", std::string(RoleName(role))}});
  }
  pairs_ejected_ = registry.AddGauge(
      "pairs_ejected",
      "Pairs of a prefill and a decode worker that are kept apart, since their handoffs failed.");
  const auto ejections = [&](const char* what) {
    return registry.AddCounter("router_ejections_total",
                               "Times that something was taken out of service: a slow worker, or "
                               "a pair whose handoffs failed; again after a probe in vain.",
                               {{"what", what}});
  };
  worker_ejections_ = ejections("worker");
  pair_ejections_ = ejections("pair");
  const auto error = [&](const char* metric) {
    return registry.AddHistogram("router_prediction_error_ratio",
                                 "|predicted - actual| / actual, of requests that completed.",
                                 {{"metric", metric}}, ErrorBuckets());
  };
  ttft_error_ = error("ttft");
  tpot_error_ = error("tpot");
}

void SchedulingMetrics::OnComplete(const Prediction& prediction, const RequestTimings& timings) {
  ObserveError(ttft_error_, prediction.ttft_ms, timings.ttft_ms);
  ObserveError(tpot_error_, prediction.tpot_ms, timings.tpot_ms);
}

void SchedulingMetrics::SetCore(const RouterCore& core) {
  size_t entries = 0;
  for (const PrefixIndex& index : core.prefixes()) entries += index.entries();
  prefix_entries_->Set(static_cast<double>(entries));
  for (const auto& [role, gauge] : workers_ejected_) gauge->Set(core.cluster().NumEjected(role));
  pairs_ejected_->Set(core.pairs().num_out());
}

}  // namespace baton::router
