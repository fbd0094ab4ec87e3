#include "router/core/cluster_view.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/check.h"
#include "router/core/predictor.h"

namespace baton::router {
namespace {

constexpr int64_t kQuickestAt = 1024;  // tokens

// As calibrated, to compare workers of one role by.
double AloneMs(const WorkerInfo& info) {
  StepShape shape;
  if (info.role != Role::kDecode) shape += StepShape::Prefill(kQuickestAt, 0);
  if (info.role != Role::kPrefill) shape += {.decode_rows = 1, .decode_context = kQuickestAt};
  return info.step_model.PredictMs(shape);
}

}  // namespace

ClusterView::ClusterView(const ClusterOptions& options)
    : options_(options),
      workers_(static_cast<size_t>(options.num_workers)),
      pools_(3, Pool(options)),
      heard_(options.num_workers) {}

WorkerState& ClusterView::At(WorkerIndex index) {
  BATON_CHECK(index.value() >= 0 && index.value() < options_.num_workers) << "worker " << index;
  return workers_[static_cast<size_t>(index.value())];
}

// ------------------------------------------------------------------ who is up

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
  TakeOut(event.from.worker);
  WorkerState fresh;
  fresh.alive = true;
  fresh.session = event.from.session;
  fresh.last_heard = now;
  fresh.info = info;
  fresh.credits = info.prefill_credits;
  fresh.report.free_blocks = info.total_blocks;
  fresh.report.credits = info.prefill_credits;
  At(event.from.worker) = std::move(fresh);
  Count(worker(event.from.worker), 1);
  RankAll(event.from.worker);
  return absl::OkStatus();
}

bool ClusterView::Report(absl::Time now, const WorkerReportEvent& event) {
  if (!IsCurrent(event.from)) return false;
  WorkerState& worker = At(event.from.worker);
  Count(worker, -1);
  const bool same_speed = worker.report.prefill_factors == event.report.prefill_factors &&
                          worker.report.decode_factors == event.report.decode_factors;
  worker.last_heard = now;
  worker.report = event.report;
  worker.credits = event.report.credits;
  if (worker.out_of_room && (event.report.available_blocks() > worker.refused_available_blocks ||
                             now - worker.refused_at >= options_.room_retry)) {
    worker.out_of_room = false;
  }
  worker.prefill.OnReport(now, ReportedPrefillMs(worker));
  worker.others_rows = std::max(0, event.report.decode_rows - worker.decoding_rows);
  worker.others_context =
      worker.others_rows == 0
          ? 0
          : std::max<int64_t>(0, event.report.decode_context - worker.decoding_context);
  Count(worker, 1);
  const bool hung =
      event.report.current_step_age_ms > absl::ToDoubleMilliseconds(options_.max_step_age);
  if (hung) hung_.insert(event.from.worker);
  if (!hung) hung_.erase(event.from.worker);
  heard_.Put(event.from.worker, now);
  RankPrefill(event.from.worker);
  RankDecode(event.from.worker);
  if (!same_speed) RankQuickest(event.from.worker);
  if (!worker.known()) return true;
  EjectionOf(worker.info.role)
      .Report(now, event.from.worker,
              {.step_time = worker.report.step_time,
               .steps = worker.report.steps_completed,
               .alone_ms = AloneMs(worker.info),
               .draining = worker.report.draining});
  TakeStandings(worker.info.role);
  if (worker.standing == Standing::kProbing) {  // see ejection.h
    worker.report.prefill_factors = worker.report.decode_factors = SizeFactors();
    RankAll(event.from.worker);
  }
  return true;
}

bool ClusterView::Down(const WorkerOrigin& from) {
  if (!IsCurrent(from)) return false;
  TakeOut(from.worker);
  return true;
}

bool ClusterView::IsCurrent(const WorkerOrigin& from) const {
  if (from.worker.value() < 0 || from.worker.value() >= options_.num_workers) return false;
  const WorkerState& state = worker(from.worker);
  return state.alive && state.session == from.session;
}

std::vector<WorkerIndex> ClusterView::Overdue(absl::Time now) const {
  std::vector<WorkerIndex> overdue;
  for (const auto& [heard, worker] : heard_.ranked()) {
    if (now - heard < options_.heartbeat * options_.missed_heartbeats) break;
    overdue.push_back(worker);
  }
  for (const WorkerIndex worker : hung_) {
    if (std::find(overdue.begin(), overdue.end(), worker) == overdue.end()) {
      overdue.push_back(worker);
    }
  }
  std::sort(overdue.begin(), overdue.end());
  return overdue;
}

absl::Time ClusterView::NextOverdue() const {
  if (heard_.ranked().empty()) return absl::InfiniteFuture();
  return heard_.ranked().begin()->first + options_.heartbeat * options_.missed_heartbeats;
}

void ClusterView::SetDraining(WorkerIndex index) {
  WorkerState& worker = At(index);
  Count(worker, -1);
  worker.report.draining = true;
  Count(worker, 1);
  RankAll(index);
  EjectionOf(worker.info.role).Gone(index);
  TakeStandings(worker.info.role);
}

void ClusterView::TakeOut(WorkerIndex index) {
  WorkerState& worker = At(index);
  Count(worker, -1);
  worker.alive = false;
  hung_.erase(index);
  RankAll(index);
  EjectionOf(worker.info.role).Gone(index);
  TakeStandings(worker.info.role);
}

void ClusterView::TakeStandings(Role role) {
  for (const WorkerIndex index : EjectionOf(role).TakeChanges()) {
    WorkerState& worker = At(index);
    Count(worker, -1);
    worker.standing = EjectionOf(role).standing(index);
    Count(worker, 1);
    RankAll(index);
    standing_changes_.push_back(index);
  }
}

void ClusterView::Count(const WorkerState& worker, int32_t by) {
  Pool& pool = pools_[static_cast<size_t>(worker.info.role)];
  if (worker.alive) pool.alive += by;
  if (worker.accepts()) pool.accepting += by;
}

// ------------------------------------------------------------------ what is placed on them

void ClusterView::TakeCredit(absl::Time now, WorkerIndex index, double ms) {
  WorkerState& worker = At(index);
  ++worker.placed_prefills;
  --worker.credits;
  worker.prefill.Add(now, ms);
  RankPrefill(index);
  RankProbing(index);
}

void ClusterView::ReturnCredit(absl::Time now, WorkerIndex index, double ms) {
  WorkerState& worker = At(index);
  --worker.placed_prefills;
  ++worker.credits;
  worker.prefill.Remove(now, ms);
  RankPrefill(index);
  RankProbing(index);
}

void ClusterView::NoCreditsUntilReport(WorkerIndex index) {
  At(index).credits = 0;
  RankPrefill(index);
}

int32_t ClusterView::AddRow(WorkerIndex index, const DecodeRow& row) {
  WorkerState& worker = At(index);
  ++worker.placed_decodes;
  worker.placed_rows += row.samples;
  const auto free_slot = std::find_if(worker.rows.begin(), worker.rows.end(),
                                      [](const DecodeRow& each) { return each.samples == 0; });
  const auto slot = static_cast<int32_t>(free_slot - worker.rows.begin());
  if (free_slot == worker.rows.end()) {
    worker.rows.push_back(row);
  } else {
    *free_slot = row;
  }
  RankDecode(index);
  RankProbing(index);
  return slot;
}

void ClusterView::StartRow(absl::Time now, WorkerIndex index, int32_t slot) {
  WorkerState& worker = At(index);
  DecodeRow& row = worker.rows[static_cast<size_t>(slot)];
  if (row.decoding) return;
  row.decoding = true;
  row.starts_ms = MsOf(now);
  worker.decoding_rows += row.samples;
  worker.decoding_context += row.context;
}

void ClusterView::CountTokens(WorkerIndex index, int32_t slot, int32_t tokens) {
  WorkerState& worker = At(index);
  DecodeRow& row = worker.rows[static_cast<size_t>(slot)];
  row.emitted += tokens;
  row.context += tokens;
  if (row.decoding) worker.decoding_context += tokens;
}

void ClusterView::RemoveRow(WorkerIndex index, int32_t slot) {
  WorkerState& worker = At(index);
  DecodeRow& row = worker.rows[static_cast<size_t>(slot)];
  --worker.placed_decodes;
  worker.placed_rows -= row.samples;
  if (row.decoding) {
    worker.decoding_rows -= row.samples;
    worker.decoding_context -= row.context;
  }
  row = DecodeRow{};
  RankDecode(index);
  RankProbing(index);
}

void ClusterView::RefusedForRoom(absl::Time now, WorkerIndex index) {
  WorkerState& state = At(index);
  state.out_of_room = true;
  state.refused_at = now;
  state.refused_available_blocks = state.report.available_blocks();
  RankDecode(index);
}

// ------------------------------------------------------------------ order

void ClusterView::RankPrefill(WorkerIndex index) {
  const WorkerState& state = worker(index);
  Pool& pool = pools_[static_cast<size_t>(state.info.role)];
  std::optional<PrefillKey> key;
  if (state.may_take()) {
    key = PrefillKey{.busy = state.prefill.busy(),
                     .prompts = state.known() ? 0 : state.placed_prefills,
                     .free_at = state.prefill.free_at()};
  }
  pool.prefills.Put(index, state.accepts() ? key : std::nullopt);
  pool.startable.Put(index, state.free_credits() > 0 && state.may_take() ? key : std::nullopt);
}

void ClusterView::RankDecode(WorkerIndex index) {
  const WorkerState& state = worker(index);
  const bool usable = state.may_take() && !state.out_of_room;
  pools_[static_cast<size_t>(state.info.role)].decodes.Put(
      index, usable ? std::optional<double>(state.decode_load()) : std::nullopt);
}

// One that gets a request or ends it leaves all rankings, or enters them.
void ClusterView::RankProbing(WorkerIndex index) {
  if (worker(index).standing != Standing::kProbing) return;
  RankPrefill(index);
  RankDecode(index);
}

void ClusterView::RankQuickest(WorkerIndex index) {
  const WorkerState& state = worker(index);
  Pool& pool = pools_[static_cast<size_t>(state.info.role)];
  std::optional<double> prefill_ms, decode_ms;
  if (state.accepts() && state.known()) {
    prefill_ms = PrefillMs(state, kQuickestAt, 0);
    decode_ms = StepMsWith(state, DecodeOutlook{}, 1, kQuickestAt);
  }
  pool.quickest_prefill.Put(index, prefill_ms);
  pool.quickest_decode.Put(index, decode_ms);
}

void ClusterView::RankAll(WorkerIndex index) {
  const WorkerState& state = worker(index);
  heard_.Put(index, state.alive ? std::optional<absl::Time>(state.last_heard) : std::nullopt);
  RankPrefill(index);
  RankDecode(index);
  RankQuickest(index);
}

}  // namespace baton::router
