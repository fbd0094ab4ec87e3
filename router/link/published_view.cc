#include "router/link/published_view.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace baton::router {

Readiness ReadinessOf(const RouterCore& core) {
  const ClusterView& cluster = core.cluster();
  if (core.draining()) {
    return {ReadyPhase::kDraining,
            absl::StrCat(core.num_running() + core.num_waiting(), " requests are still open")};
  }
  if (cluster.CanServe()) return {ReadyPhase::kReady, ""};
  if (cluster.Accepting(Role::kPrefill)) {
    return {ReadyPhase::kLoading, "waiting for a decode worker"};
  }
  if (cluster.Accepting(Role::kDecode)) {
    return {ReadyPhase::kLoading, "waiting for a prefill worker"};
  }
  return {ReadyPhase::kLoading, "waiting for workers"};
}

std::vector<LoadView::Worker> WorkersOf(const RouterCore& core) {
  std::vector<LoadView::Worker> workers;
  for (const WorkerState& state : core.cluster().workers()) {
    if (state.info.id.empty()) continue;  // never seen
    workers.push_back({.id = state.info.id,
                       .role = std::string(RoleName(state.info.role)),
                       .alive = state.alive,
                       .running = state.alive ? state.report.running : 0,
                       .free_blocks = state.alive ? state.report.free_blocks : 0,
                       .total_blocks = state.info.total_blocks});
  }
  return workers;
}

void ReportCore(const RouterCore& core, ClusterReport* report) {
  const auto in = [&](std::initializer_list<Phase> phases) {
    int64_t count = 0;
    for (const Phase phase : phases) count += core.num_in(phase);
    return count;
  };
  report->stages = {{"queued", in({Phase::kQueued})},
                    {"reserving", in({Phase::kReserving})},
                    {"prefilling", in({Phase::kPrefilling})},
                    {"transferring", in({Phase::kTransferring})},
                    // A worker that does both does not say which it is at.
                    {"decoding", in({Phase::kDecoding, Phase::kGenerating})}};
  report->workers.clear();
  for (const WorkerState& state : core.cluster().workers()) {
    if (state.info.id.empty()) continue;  // never seen
    ClusterReport::Worker worker{.id = state.info.id,
                                 .role = std::string(RoleName(state.info.role)),
                                 .alive = state.alive,
                                 .total_blocks = state.info.total_blocks};
    if (state.alive) {
      worker.draining = state.report.draining;
      worker.standing = StandingName(state.standing);
      worker.running = state.report.running;
      worker.waiting = state.report.waiting;
      worker.free_blocks = state.report.free_blocks;
      worker.cached_blocks = state.report.cached_blocks;
      worker.busy_blocks = state.report.busy_blocks;
      worker.step_ms = state.report.step_ms_ewma;
    }
    report->workers.push_back(std::move(worker));
  }
  report->ejected_pairs.clear();
  for (const WorkerPair& pair : core.pairs().Out()) {
    report->ejected_pairs.push_back(
        {.prefill = core.cluster().worker(pair.prefill).info.id,
         .decode = core.cluster().worker(pair.decode).info.id,
         .standing = std::string(StandingName(core.pairs().standing(pair)))});
  }
}

ServedModel PublishedView::model() const {
  absl::MutexLock lock(&mutex_);
  return model_;
}

Readiness PublishedView::readiness() const {
  absl::MutexLock lock(&mutex_);
  return readiness_;
}

LoadView PublishedView::load() const {
  LoadView view;
  view.requests_running = running_.load(std::memory_order_relaxed);
  view.requests_waiting = waiting_.load(std::memory_order_relaxed);
  absl::MutexLock lock(&mutex_);
  view.workers = workers_;
  return view;
}

ClusterReport PublishedView::report() const {
  absl::MutexLock lock(&mutex_);
  return report_;
}

void PublishedView::SetReport(ClusterReport report) {
  absl::MutexLock lock(&mutex_);
  report_ = std::move(report);
}

void PublishedView::SetModel(ServedModel model) {
  absl::MutexLock lock(&mutex_);
  model_ = std::move(model);
}

void PublishedView::SetReadiness(Readiness readiness) {
  absl::MutexLock lock(&mutex_);
  readiness_ = std::move(readiness);
}

void PublishedView::SetWorkers(std::vector<LoadView::Worker> workers) {
  absl::MutexLock lock(&mutex_);
  workers_ = std::move(workers);
}

}  // namespace baton::router
