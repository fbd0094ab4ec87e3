#include "cli/sweep_lab.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "bench/load/client/probe.h"
#include "bench/load/client/run_load.h"
#include "cli/local_cluster.h"
#include "common/check.h"

namespace baton {
namespace {

constexpr absl::Duration kProbeTimeout = absl::Seconds(10);
// A client that sends later than this has not sent what was planned.
constexpr double kLateMs = 50;

class LocalSweepCluster final : public sweep::Cluster {
 public:
  LocalSweepCluster(std::unique_ptr<LocalCluster> cluster, load::Target target,
                    int32_t max_model_len, SignalWaiter& signals, Logger& log, bool* stopped)
      : cluster_(std::move(cluster)),
        target_(std::move(target)),
        max_model_len_(max_model_len),
        signals_(signals),
        log_(log),
        stopped_(*stopped) {}

  ~LocalSweepCluster() override {
    const absl::Status status = cluster_->Stop(signals_);
    if (absl::IsAborted(status)) {
      stopped_ = true;
    } else if (!status.ok()) {
      log_.Warning("cluster did not stop", {{"error", std::string(status.message())}});
    }
  }

  int32_t max_model_len() const override { return max_model_len_; }

  absl::StatusOr<std::vector<load::RequestRecord>> Run(
      const load::LoadPlan& plan,
      const std::function<bool(const load::RequestRecord&)>& go_on) override {
    load::LoadHooks hooks;
    hooks.on_ended = go_on;
    hooks.on_progress = [&](const load::LoadProgress&) {
      stopped_ = signals_.Wait(absl::ZeroDuration()) != 0;
      return !stopped_;
    };
    ASSIGN_OR_RETURN(load::LoadResult result, load::RunLoad(plan, target_, hooks));
    if (stopped_) return absl::CancelledError("stopped by a signal");
    double late_ms = 0;
    for (const load::RequestRecord& record : result.records) {
      late_ms = std::max(late_ms, record.late_ms());
    }
    if (late_ms > kLateMs) log_.Warning("the client sent late", {{"worst_ms", late_ms}});
    return std::move(result.records);
  }

 private:
  std::unique_ptr<LocalCluster> cluster_;
  const load::Target target_;
  const int32_t max_model_len_;
  SignalWaiter& signals_;
  Logger& log_;
  bool& stopped_;
};

std::vector<std::string> WorkerArguments(const sweep::Setup& setup, const sweep::WorkerPlan& worker,
                                         const SweepLabOptions& options) {
  return {absl::StrCat("--model=", options.model),
          absl::StrCat("--role=", worker.role),
          absl::StrCat("--threads=", worker.cpus.size()),
          absl::StrCat("--cpus=", absl::StrJoin(worker.cpus, ",")),
          absl::StrCat("--chunked-prefill=", setup.chunked_prefill),
          absl::StrCat("--kv-memory=", options.kv_memory),
          "--log-level=error"};
}

std::vector<std::string> RouterArguments(const load::Slo& slo, bool admission,
                                         const SweepLabOptions& options) {
  std::vector<std::string> arguments = {
      absl::StrCat("--model=", options.model), "--port=0", "--log-level=error",
      absl::StrCat("--admission-mode=", admission ? "predict" : "off")};
  if (std::isfinite(slo.ttft_ms)) arguments.push_back(absl::StrCat("--slo-ttft-ms=", slo.ttft_ms));
  if (std::isfinite(slo.tpot_ms)) arguments.push_back(absl::StrCat("--slo-tpot-ms=", slo.tpot_ms));
  return arguments;
}

}  // namespace

absl::Time SweepLab::Now() { return absl::Now(); }

absl::StatusOr<std::unique_ptr<sweep::Cluster>> SweepLab::Start(const sweep::Setup& setup,
                                                                const load::Slo& slo,
                                                                bool admission) {
  if (stopped_) return absl::CancelledError("stopped by a signal");
  LocalClusterOptions cluster_options;
  for (const sweep::WorkerPlan& worker : setup.workers) {
    cluster_options.workers.push_back(
        {.id = absl::StrCat(worker.role, "-", cluster_options.workers.size()),
         .arguments = WorkerArguments(setup, worker, options_)});
  }
  cluster_options.router_arguments = RouterArguments(slo, admission, options_);
  ASSIGN_OR_RETURN(auto cluster, LocalCluster::Start(std::move(cluster_options), signals_, log_));
  load::Target target;
  ASSIGN_OR_RETURN(target.url,
                   load::ParseServerUrl(absl::StrCat("http://127.0.0.1:", cluster->http_port())));
  target.timeout = options_.request_timeout;
  ASSIGN_OR_RETURN(const auto models, load::ListModels(target, kProbeTimeout));
  if (models.empty()) return absl::InternalError("the cluster serves no model");
  target.body.model = models.front().id;
  target.body.tokens = load::RangeOfVocabulary(models.front().vocab_size);
  return std::make_unique<LocalSweepCluster>(std::move(cluster), std::move(target),
                                             models.front().max_model_len, signals_, log_,
                                             &stopped_);
}

}  // namespace baton
