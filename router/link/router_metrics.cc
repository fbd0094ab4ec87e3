#include "router/link/router_metrics.h"

#include <utility>
#include <vector>

namespace baton::router {
namespace {

constexpr char kNoStage[] = "none";

// The stages that a miss can be charged to; see JudgeSlo.
std::vector<std::string> MissedStages(SloResult result) {
  const auto names = [](std::initializer_list<Stage> stages) {
    std::vector<std::string> out;
    for (const Stage stage : stages) out.emplace_back(StageName(stage));
    return out;
  };
  switch (result) {
    case SloResult::kTtftMiss:
    case SloResult::kBoth:
      return names({Stage::kQueue, Stage::kReserve, Stage::kPrefill});
    case SloResult::kTpotMiss:
      return names({Stage::kTransfer, Stage::kDecodeQueue, Stage::kDecode});
    case SloResult::kGood:
    case SloResult::kError:
    case SloResult::kRejected:
    case SloResult::kAborted:
      break;
  }
  return {kNoStage};
}

}  // namespace

RouterMetrics::RouterMetrics(MetricRegistry& registry, std::vector<SloClass> slo_classes)
    : registry_(registry), slo_classes_(std::move(slo_classes)) {
  running_ = registry.AddGauge("requests_running", "Requests that workers are working on.");
  waiting_ = registry.AddGauge("requests_waiting", "Requests in the router's queue.");
  for (const Role role : {Role::kPrefill, Role::kDecode, Role::kBoth}) {
    workers_[role] = registry.AddGauge("workers_alive", "Workers with a live session, by role.",
                                       {{"role", std::string(RoleName(role))}});
  }
  for (const FinishReason reason :
       {FinishReason::kStop, FinishReason::kLength, FinishReason::kAborted}) {
    success_[reason] = registry.AddCounter(
        "request_success_total", "Requests that ended as the client asked, by finish reason.",
        {{"finish_reason", std::string(FinishReasonName(reason))}});
  }
  aborted_ = success_[FinishReason::kAborted];
  retries_ = registry.AddCounter("request_retries_total",
                                 "Attempts that were lost and made again elsewhere.");
  prompt_tokens_ = registry.AddCounter("prompt_tokens_total", "Prompt tokens of served requests.");
  generation_tokens_ = registry.AddCounter("generation_tokens_total", "Tokens sent to clients.");
  goodput_tokens_ = registry.AddCounter("goodput_tokens_total",
                                        "Generated tokens of requests that met their objectives.");
  // Every objective is a bound of the histograms, so that their shares are exact.
  std::vector<double> ttft_s, tpot_s;
  for (const SloClass& slo_class : slo_classes_) {
    ttft_s.push_back(slo_class.target.ttft_ms / 1000);
    tpot_s.push_back(slo_class.target.tpot_ms / 1000);
  }
  ttft_ = registry.AddHistogram("time_to_first_token_seconds", "Arrival to the first token.", {},
                                WithBounds(TtftBuckets(), ttft_s));
  inter_token_ =
      registry.AddHistogram("inter_token_latency_seconds", "Gap between two tokens of one sample.",
                            {}, WithBounds(InterTokenBuckets(), tpot_s));
  tpot_ = registry.AddHistogram("time_per_output_token_seconds",
                                "(last - first token) / (tokens - 1), of the slowest sample.", {},
                                WithBounds(InterTokenBuckets(), tpot_s));
  e2e_ = registry.AddHistogram("e2e_request_latency_seconds", "Arrival to the last token.", {},
                               RequestSecondsBuckets());
  for (const Stage stage : kAllStages) {
    stages_[stage] = registry.AddHistogram(
        "request_stage_seconds", "Time in each stage, each interval measured in one process.",
        {{"stage", std::string(StageName(stage))}}, RequestSecondsBuckets());
  }
  for (const SloClass& slo_class : slo_classes_) {
    const std::pair<const char*, double> thresholds[] = {{"ttft", slo_class.target.ttft_ms},
                                                         {"tpot", slo_class.target.tpot_ms}};
    for (const auto& [metric, ms] : thresholds) {
      registry
          .AddGauge("slo_threshold_seconds", "The configured objectives.",
                    {{"slo_class", slo_class.name}, {"metric", metric}})
          ->Set(ms / 1000);
    }
  }
}

void RouterMetrics::SetModel(const std::string& model) {
  if (!model_.empty() || model.empty()) return;
  model_ = model;
  for (size_t i = 0; i < slo_classes_.size(); ++i) {
    for (const SloResult result : kAllSloResults) {
      for (const std::string& stage : MissedStages(result)) {
        slo_[{static_cast<int32_t>(i), result, stage}] = registry_.AddCounter(
            "slo_requests_total", "Requests that ended, by whether they met their objectives.",
            {{"model", model},
             {"slo_class", slo_classes_[i].name},
             {"result", std::string(SloResultName(result))},
             {"missed_stage", stage}});
      }
    }
  }
}

void RouterMetrics::OnEnd(const SloOutcome& outcome) {
  ended_ += 1;
  if (outcome.result == SloResult::kGood) good_ += 1;
  const std::string stage(outcome.missed_stage.has_value() ? StageName(*outcome.missed_stage)
                                                           : std::string_view(kNoStage));
  if (const auto found = slo_.find({outcome.slo_class, outcome.result, stage});
      found != slo_.end()) {
    found->second->Increment();
  }
}

void RouterMetrics::OnSuccess(const RequestSummary& summary, FinishReason reason,
                              const SloOutcome& outcome) {
  success_[reason]->Increment();
  const RequestTimings& timings = summary.timings;
  e2e_->Observe(timings.total_ms / 1000);
  if (timings.tpot_ms > 0) tpot_->Observe(timings.tpot_ms / 1000);
  const std::pair<Stage, double> stages[] = {{Stage::kQueue, timings.queue_ms},
                                             {Stage::kReserve, timings.reserve_ms},
                                             {Stage::kPrefill, timings.prefill_ms},
                                             {Stage::kTransfer, timings.transfer_ms},
                                             {Stage::kDecodeQueue, timings.decode_queue_ms},
                                             {Stage::kDecode, timings.decode_ms}};
  for (const auto& [stage, ms] : stages) stages_[stage]->Observe(ms / 1000);
  if (timings.attempts > 1) retries_->Increment(timings.attempts - 1);
  if (outcome.result == SloResult::kGood) goodput_tokens_->Increment(summary.completion_tokens);
}

void RouterMetrics::SetLoad(int32_t running, int32_t waiting) {
  running_->Set(running);
  waiting_->Set(waiting);
}

void RouterMetrics::SetWorkers(const ClusterView& cluster) {
  for (const auto& [role, gauge] : workers_) gauge->Set(cluster.NumAlive(role));
}

RouterMetrics::Totals RouterMetrics::totals() const {
  return {.prompt_tokens = prompt_tokens_->Value(),
          .generation_tokens = generation_tokens_->Value(),
          .ended = ended_,
          .good = good_};
}

}  // namespace baton::router
