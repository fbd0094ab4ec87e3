// Counts of ended requests for the cluster report: by SLO class, by missed stage, by worker pair.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "router/cluster_report.h"
#include "router/completion_service.h"
#include "router/core/slo.h"

namespace baton::router {

// Called by the router's loop only.
class TrafficLog {
 public:
  explicit TrafficLog(const std::vector<SloClass>& classes);

  void OnEnd(const SloOutcome& outcome);
  // A request that was answered: its handoff, if it had one.
  void OnSuccess(const RequestTimings& timings);
  // Fills classes, missed, rejected and pairs.
  void Report(ClusterReport* report) const;

 private:
  struct ClassCounts {
    SloClass slo_class;
    std::array<int64_t, kAllSloResults.size()> results = {};  // by SloResult
  };
  std::vector<ClassCounts> classes_;
  std::array<int64_t, kAllStages.size()> missed_ = {};  // by Stage
  // By prefill worker, decode worker, transport.
  std::map<std::tuple<std::string, std::string, std::string>, ClusterReport::Pair> pairs_;
};

}  // namespace baton::router
