// What other threads may ask of the router at any time: written by its loop, read by anyone.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "router/cluster_report.h"
#include "router/completion_service.h"
#include "router/core/router_core.h"

namespace baton::router {

// Pure: what the view says of a core.
Readiness ReadinessOf(const RouterCore& core);
std::vector<LoadView::Worker> WorkersOf(const RouterCore& core);
// Fills stages and workers.
void ReportCore(const RouterCore& core, ClusterReport* report);

// Thread-safe. The mutex is held for copies only.
class PublishedView {
 public:
  explicit PublishedView(ServedModel model) : model_(std::move(model)) {}

  ServedModel model() const;
  Readiness readiness() const;
  LoadView load() const;
  ClusterReport report() const;

  void SetModel(ServedModel model);
  void SetReadiness(Readiness readiness);
  void SetWorkers(std::vector<LoadView::Worker> workers);
  void SetReport(ClusterReport report);
  void SetCounts(int32_t running, int32_t waiting) {
    running_.store(running, std::memory_order_relaxed);
    waiting_.store(waiting, std::memory_order_relaxed);
  }

 private:
  std::atomic<int32_t> running_ = 0;
  std::atomic<int32_t> waiting_ = 0;
  mutable absl::Mutex mutex_;
  ServedModel model_ ABSL_GUARDED_BY(mutex_);
  Readiness readiness_ ABSL_GUARDED_BY(mutex_);
  std::vector<LoadView::Worker> workers_ ABSL_GUARDED_BY(mutex_);
  ClusterReport report_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace baton::router
