#include "worker/worker_metrics.h"

namespace baton {
namespace {

// In the order in which Update sets them.
constexpr std::array<const char*, 7> kBlockStates = {"free",   "reserved", "landing",    "sealed",
                                                     "in_use", "cached",   "quarantined"};

constexpr std::array<const char*, 3> kStepKinds = {"prefill", "decode", "mixed"};

size_t KindOf(const StepShape& shape) {
  if (shape.prefill_tokens == 0) return 1;
  return shape.decode_rows == 0 ? 0 : 2;
}

}  // namespace

WorkerMetrics::WorkerMetrics(MetricRegistry& registry) {
  requests_running_ = registry.AddGauge("requests_running", "Samples in the continuous batch");
  requests_waiting_ = registry.AddGauge("requests_waiting", "Sequences not started or preempted");
  requests_open_ = registry.AddGauge("worker_requests_open", "Requests that the worker holds");
  usage_ratio_ = registry.AddGauge("kv_cache_usage_ratio", "KV blocks not free or cached, of all");
  step_age_ = registry.AddGauge("worker_step_age_seconds", "Age of the step that runs now");
  credits_ = registry.AddGauge("worker_credits", "Requests that could start now");
  for (size_t i = 0; i < kBlockStates.size(); ++i) {
    blocks_[i] = registry.AddGauge("kv_blocks", "KV blocks by state", {{"state", kBlockStates[i]}});
  }
  const auto follow = [&](const char* name, const char* help, const MetricLabels& labels = {}) {
    return Follower{registry.AddCounter(name, help, labels)};
  };
  preemptions_ = follow("preemptions_total", "Samples put back for want of KV blocks");
  prefix_queries_ =
      follow("prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache");
  prefix_hits_ = follow("prefix_cache_hits_total", "Prompt tokens found in the prefix cache");
  prompt_tokens_ = follow("prompt_tokens_total", "Prompt tokens of prefilled requests");
  generation_tokens_ = follow("generation_tokens_total", "Tokens generated");
  const char* success_help = "Samples ended, by reason";
  success_stop_ = follow("request_success_total", success_help, {{"finish_reason", "stop"}});
  success_length_ = follow("request_success_total", success_help, {{"finish_reason", "length"}});
  success_abort_ = follow("request_success_total", success_help, {{"finish_reason", "abort"}});
  failed_ = follow("worker_requests_failed_total", "Requests that ended with an error here");
  for (size_t i = 0; i < kStepKinds.size(); ++i) {
    const MetricLabels kind{{"kind", kStepKinds[i]}};
    step_seconds_[i] = registry.AddHistogram(
        "step_seconds", "Duration of one engine step, by what it computed", kind,
        {.0005, .001, .002, .004, .008, .016, .032, .064, .128, .256, .512, 1, 2, 4, 8});
    step_predicted_seconds_[i] = registry.AddCounter(
        "step_predicted_seconds_total",
        "What the step model predicted for the steps that step_seconds measured", kind);
  }
  steps_ahead_ = registry.AddCounter(
      "steps_ahead_total", "Steps that began before the tokens of the one before were known");
  step_model_error_ = registry.AddGauge(
      "step_model_error_ratio", "Moving mean of |predicted - measured| / measured over steps");
  const char* factor_help = "Measured over calibrated step time, as the latest steps say";
  prefill_factor_ = registry.AddGauge("step_model_factor", factor_help, {{"kind", "prefill"}});
  decode_factor_ = registry.AddGauge("step_model_factor", factor_help, {{"kind", "decode"}});
  prefill_factor_->Set(1);
  decode_factor_->Set(1);
  const std::vector<double> counts = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};
  step_prefill_tokens_ =
      registry.AddHistogram("engine_step_prefill_tokens", "Prompt tokens in one step", {}, counts);
  step_decode_rows_ =
      registry.AddHistogram("engine_step_decode_rows", "Decoding samples in one step", {}, counts);
}

void WorkerMetrics::Follower::MoveTo(uint64_t total) {
  const double value = static_cast<double>(total);
  if (value > seen) counter->Increment(value - seen);
  seen = value;
}

void WorkerMetrics::ObserveStep(const StepShape& shape, absl::Duration duration,
                                absl::Duration predicted) {
  const size_t kind = KindOf(shape);
  step_seconds_[kind]->Observe(absl::ToDoubleSeconds(duration));
  step_predicted_seconds_[kind]->Increment(absl::ToDoubleSeconds(predicted));
  if (shape.prefill_tokens > 0) {
    step_prefill_tokens_->Observe(static_cast<double>(shape.prefill_tokens));
  }
  if (shape.decode_rows > 0) step_decode_rows_->Observe(static_cast<double>(shape.decode_rows));
}

void WorkerMetrics::Update(const StatusSnapshot& snapshot, absl::Time now) {
  requests_running_->Set(snapshot.running);
  requests_waiting_->Set(snapshot.waiting);
  requests_open_->Set(snapshot.role.open + snapshot.role.closing);
  const BlockCensus& blocks = snapshot.blocks;
  const int32_t total = snapshot.total_blocks();
  usage_ratio_->Set(total == 0 ? 0.0
                               : 1.0 - static_cast<double>(snapshot.available_blocks()) / total);
  step_age_->Set(snapshot.step_started.has_value()
                     ? absl::ToDoubleSeconds(now - *snapshot.step_started)
                     : 0.0);
  credits_->Set(snapshot.role.credits);
  step_model_error_->Set(snapshot.step_error_ratio);
  prefill_factor_->Set(snapshot.prefill_factor);
  decode_factor_->Set(snapshot.decode_factor);
  const std::array<int32_t, 7> counts = {blocks.free,       blocks.reserved, blocks.landing,
                                         blocks.sealed,     blocks.in_use,   blocks.cached,
                                         blocks.quarantined};
  for (size_t i = 0; i < counts.size(); ++i) blocks_[i]->Set(counts[i]);
  preemptions_.MoveTo(snapshot.preemptions_total);
  prefix_queries_.MoveTo(snapshot.prefix_query_tokens_total);
  prefix_hits_.MoveTo(snapshot.prefix_hit_tokens_total);
  prompt_tokens_.MoveTo(snapshot.role.prompt_tokens);
  generation_tokens_.MoveTo(snapshot.role.generation_tokens);
  success_stop_.MoveTo(snapshot.role.finished_stop);
  success_length_.MoveTo(snapshot.role.finished_length);
  success_abort_.MoveTo(snapshot.role.finished_abort);
  failed_.MoveTo(snapshot.role.failed);
}

}  // namespace baton
