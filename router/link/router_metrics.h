// The router's series of API.md. All exist at zero from the start, except those labelled by model,
// which wait for its name when the configuration does not give one.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "common/metrics.h"
#include "router/completion_service.h"
#include "router/core/cluster_view.h"
#include "router/core/slo.h"

namespace baton::router {

// Called by the router's loop only.
class RouterMetrics {
 public:
  RouterMetrics(MetricRegistry& registry, std::vector<SloClass> slo_classes);

  // Creates the series that carry the model's name; later calls change nothing.
  void SetModel(const std::string& model);

  void OnPromptTokens(int32_t count) { prompt_tokens_->Increment(count); }
  void OnToken() { generation_tokens_->Increment(); }
  void OnFirstToken(double ttft_s) { ttft_->Observe(ttft_s); }
  void OnTokenGap(double gap_s) { inter_token_->Observe(gap_s); }
  void OnEnd(const SloOutcome& outcome);
  void OnSuccess(const RequestSummary& summary, FinishReason reason, const SloOutcome& outcome);
  void OnAborted() { aborted_->Increment(); }
  void SetLoad(int32_t running, int32_t waiting);
  void SetWorkers(const ClusterView& cluster);

  // For the statistics line; counted since the start.
  struct Totals {
    double prompt_tokens = 0, generation_tokens = 0, ended = 0, good = 0;
  };
  Totals totals() const;

 private:
  MetricRegistry& registry_;
  const std::vector<SloClass> slo_classes_;
  std::string model_;
  double ended_ = 0, good_ = 0;
  Gauge* running_;
  Gauge* waiting_;
  std::map<Role, Gauge*> workers_;
  std::map<FinishReason, Counter*> success_;
  Counter* aborted_;
  Counter* retries_;
  Counter* prompt_tokens_;
  Counter* generation_tokens_;
  Counter* goodput_tokens_;
  Histogram* ttft_;
  Histogram* inter_token_;
  Histogram* tpot_;
  Histogram* e2e_;
  std::map<Stage, Histogram*> stages_;
  std::map<std::tuple<int32_t, SloResult, std::string>, Counter*> slo_;  // class, result, stage
};

}  // namespace baton::router
