// What the router believes of its workers: who is up, since which session, with how much room.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "router/core/events.h"
#include "router/core/types.h"

namespace baton::router {

struct ClusterOptions {
  int32_t num_workers = 0;
  absl::Duration heartbeat = absl::Seconds(1);
  int32_t missed_heartbeats = 3;                   // then a worker counts as dead
  absl::Duration max_step_age = absl::Minutes(1);  // a longer step counts as hung
  // A decode worker that refused for want of room is asked again when it reports more room, or at
  // the first report after this time.
  absl::Duration room_retry = absl::Milliseconds(250);
  uint32_t protocol_version = 1;
};

struct WorkerState {
  bool alive = false;
  SessionId session;
  absl::Time last_heard = absl::InfinitePast();
  WorkerInfo info;
  WorkerReport report;
  int32_t placed_prefills = 0;  // ours that hold one of its credits
  int32_t placed_decodes = 0;   // ours that it holds or was asked to hold blocks for
  int32_t credits = 0;          // last report, less what was placed since, plus what came back
  bool out_of_room = false;     // refused a reservation; see room_retry
  absl::Time refused_at = absl::InfinitePast();
  int32_t refused_available_blocks = 0;

  bool accepts() const { return alive && !report.draining; }
  int32_t free_credits() const {
    const int32_t own = info.prefill_credits - placed_prefills;
    return own < credits ? own : credits;
  }
};

// Not thread-safe. Pure.
class ClusterView {
 public:
  explicit ClusterView(const ClusterOptions& options);

  // FAILED_PRECONDITION: another model, another protocol, or a boot that another address already
  // reached. The first worker that is accepted fixes the model.
  absl::Status Up(absl::Time now, const WorkerUpEvent& event);
  // False: not the current session. REQUIRES of the others: the worker's index is in range.
  bool Report(absl::Time now, const WorkerReportEvent& event);
  bool Down(const WorkerOrigin& from);
  bool IsCurrent(const WorkerOrigin& from) const;

  // Workers that have missed their heartbeats or hang in a step, at `now`.
  std::vector<WorkerIndex> Overdue(absl::Time now) const;
  // When the next live worker would become overdue; infinite future without one.
  absl::Time NextOverdue() const;

  void TakeCredit(WorkerIndex worker);
  void ReturnCredit(WorkerIndex worker);
  void NoCreditsUntilReport(WorkerIndex worker) { At(worker).credits = 0; }
  void AddDecode(WorkerIndex worker) { ++At(worker).placed_decodes; }
  void RemoveDecode(WorkerIndex worker) { --At(worker).placed_decodes; }
  void RefusedForRoom(absl::Time now, WorkerIndex worker);
  void SetDraining(WorkerIndex worker) { At(worker).report.draining = true; }

  const WorkerState& worker(WorkerIndex index) const;
  const std::vector<WorkerState>& workers() const { return workers_; }
  // Some worker could take a prefill and some a decode, or one of role both could do it all.
  bool HasPair() const { return Accepting(Role::kPrefill) && Accepting(Role::kDecode); }
  bool HasBoth() const { return Accepting(Role::kBoth); }
  bool CanServe() const { return HasPair() || HasBoth(); }
  bool Accepting(Role role) const;
  int32_t NumAlive(Role role) const;
  uint64_t model_fingerprint() const { return model_fingerprint_; }
  // Of the first accepted worker; empty before.
  const std::optional<WorkerInfo>& model_info() const { return model_info_; }

 private:
  WorkerState& At(WorkerIndex index);

  const ClusterOptions options_;
  std::vector<WorkerState> workers_;  // [num_workers]
  uint64_t model_fingerprint_ = 0;    // 0: not known yet
  std::optional<WorkerInfo> model_info_;
};

}  // namespace baton::router
