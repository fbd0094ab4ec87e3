#include "router/core/cluster_view.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/check.h"

namespace baton::router {

ClusterView::ClusterView(const ClusterOptions& options)
    : options_(options), workers_(static_cast<size_t>(options.num_workers)) {}

WorkerState& ClusterView::At(WorkerIndex index) {
  BATON_CHECK(index.value() >= 0 && index.value() < options_.num_workers) << "worker " << index;
  return workers_[static_cast<size_t>(index.value())];
}

const WorkerState& ClusterView::worker(WorkerIndex index) const {
  return const_cast<ClusterView*>(this)->At(index);
}

absl::Status ClusterView::Up(absl::Time now, const WorkerUpEvent& event) {
  const WorkerInfo& info = event.info;
  if (info.protocol_version != options_.protocol_version) {
    return absl::FailedPreconditionError(
        absl::StrCat("worker ", info.id, " speaks protocol ", info.protocol_version,
                     ", this router speaks ", options_.protocol_version));
  }
  if (model_info_.has_value() && info.model_fingerprint != model_fingerprint_) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "worker %s serves model %s with fingerprint %016x, this cluster serves %s with %016x",
        info.id, info.model_name, info.model_fingerprint, model_info_->model_name,
        model_fingerprint_));
  }
  for (size_t i = 0; i < workers_.size(); ++i) {
    const bool same_place = static_cast<int32_t>(i) == event.from.worker.value();
    if (!same_place && workers_[i].alive && workers_[i].info.boot == info.boot) {
      return absl::FailedPreconditionError(
          absl::StrCat("worker ", info.id, " is listed twice: addresses ", i, " and ",
                       event.from.worker.value(), " reach the same process"));
    }
  }
  if (!model_info_.has_value()) {
    model_info_ = info;
    model_fingerprint_ = info.model_fingerprint;
  }
  WorkerState fresh;
  fresh.alive = true;
  fresh.session = event.from.session;
  fresh.last_heard = now;
  fresh.info = info;
  fresh.credits = info.prefill_credits;
  fresh.report.free_blocks = info.total_blocks;
  fresh.report.credits = info.prefill_credits;
  At(event.from.worker) = std::move(fresh);
  return absl::OkStatus();
}

bool ClusterView::Report(absl::Time now, const WorkerReportEvent& event) {
  if (!IsCurrent(event.from)) return false;
  WorkerState& worker = At(event.from.worker);
  worker.last_heard = now;
  worker.report = event.report;
  worker.credits = event.report.credits;
  if (worker.out_of_room && (event.report.available_blocks() > worker.refused_available_blocks ||
                             now - worker.refused_at >= options_.room_retry)) {
    worker.out_of_room = false;
  }
  return true;
}

bool ClusterView::Down(const WorkerOrigin& from) {
  if (!IsCurrent(from)) return false;
  At(from.worker).alive = false;
  return true;
}

bool ClusterView::IsCurrent(const WorkerOrigin& from) const {
  if (from.worker.value() < 0 || from.worker.value() >= options_.num_workers) return false;
  const WorkerState& state = worker(from.worker);
  return state.alive && state.session == from.session;
}

std::vector<WorkerIndex> ClusterView::Overdue(absl::Time now) const {
  std::vector<WorkerIndex> overdue;
  for (size_t i = 0; i < workers_.size(); ++i) {
    const WorkerState& state = workers_[i];
    if (!state.alive) continue;
    const bool silent = now - state.last_heard >= options_.heartbeat * options_.missed_heartbeats;
    const bool hung =
        state.report.current_step_age_ms > absl::ToDoubleMilliseconds(options_.max_step_age);
    if (silent || hung) overdue.push_back(WorkerIndex(static_cast<int32_t>(i)));
  }
  return overdue;
}

absl::Time ClusterView::NextOverdue() const {
  absl::Time next = absl::InfiniteFuture();
  for (const WorkerState& state : workers_) {
    if (!state.alive) continue;
    next = std::min(next, state.last_heard + options_.heartbeat * options_.missed_heartbeats);
  }
  return next;
}

void ClusterView::TakeCredit(WorkerIndex index) {
  ++At(index).placed_prefills;
  --At(index).credits;
}

void ClusterView::ReturnCredit(WorkerIndex index) {
  --At(index).placed_prefills;
  ++At(index).credits;
}

void ClusterView::RefusedForRoom(absl::Time now, WorkerIndex index) {
  WorkerState& state = At(index);
  state.out_of_room = true;
  state.refused_at = now;
  state.refused_available_blocks = state.report.available_blocks();
}

bool ClusterView::Accepting(Role role) const {
  return std::any_of(workers_.begin(), workers_.end(), [role](const WorkerState& state) {
    return state.accepts() && state.info.role == role;
  });
}

int32_t ClusterView::NumAlive(Role role) const {
  return static_cast<int32_t>(std::count_if(
      workers_.begin(), workers_.end(),
      [role](const WorkerState& state) { return state.alive && state.info.role == role; }));
}

}  // namespace baton::router
