// What the router believes of its workers: who is up, since which session, with how much room, and
// who is best placed for the next request. Every event costs O(log workers) here, except a worker
// that comes up.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "router/core/ejection.h"
#include "router/core/events.h"
#include "router/core/types.h"
#include "router/core/worker_ranking.h"
#include "router/core/worker_state.h"

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
  EjectionOptions ejection;
};

// Idle workers first, the longest idle first; then by when they are free. One without a step model
// goes by the prompts that it holds.
struct PrefillKey {
  bool busy = false;
  int32_t prompts = 0;
  absl::Time free_at;

  friend bool operator==(const PrefillKey&, const PrefillKey&) = default;
  friend bool operator<(const PrefillKey& a, const PrefillKey& b) {
    return std::tie(a.busy, a.prompts, a.free_at) < std::tie(b.busy, b.prompts, b.free_at);
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

  // A prompt that will keep the worker busy for `ms` takes a credit, and gives it back.
  void TakeCredit(absl::Time now, WorkerIndex worker, double ms);
  void ReturnCredit(absl::Time now, WorkerIndex worker, double ms);
  void NoCreditsUntilReport(WorkerIndex worker);
  // A request that the worker will decode; the slot names it until RemoveRow.
  int32_t AddRow(WorkerIndex worker, const DecodeRow& row);
  void StartRow(absl::Time now, WorkerIndex worker, int32_t slot);  // it decodes from now on
  void CountTokens(WorkerIndex worker, int32_t slot, int32_t tokens);
  void RemoveRow(WorkerIndex worker, int32_t slot);
  void RefusedForRoom(absl::Time now, WorkerIndex worker);
  void SetDraining(WorkerIndex worker);

  const WorkerState& worker(WorkerIndex index) const {
    return workers_[static_cast<size_t>(index.value())];
  }
  const std::vector<WorkerState>& workers() const { return workers_; }
  // Accepting: in service, see WorkerState::accepts. Slow ones that are ejected are at most half of
  // a pool, so that a pool with a live worker that does not drain has an accepting one. Some worker
  // could take a prefill and some a decode, or one of role both could do it all.
  bool HasPair() const { return Accepting(Role::kPrefill) && Accepting(Role::kDecode); }
  bool HasBoth() const { return Accepting(Role::kBoth); }
  bool CanServe() const { return HasPair() || HasBoth(); }
  bool Accepting(Role role) const { return NumAccepting(role) > 0; }
  int32_t NumAccepting(Role role) const { return Of(role).accepting; }
  int32_t NumAlive(Role role) const { return Of(role).alive; }
  int32_t NumEjected(Role role) const { return Of(role).ejection.num_out(); }
  // Workers that were taken out of service or came back since the last call.
  std::vector<WorkerIndex> TakeStandingChanges() { return std::exchange(standing_changes_, {}); }

  using PrefillRanking = WorkerRanking<PrefillKey>;
  using Ranking = WorkerRanking<double>;
  // Workers that may take a prompt now (WorkerState::may_take) and have a credit; and all accepting
  // ones.
  const PrefillRanking& startable(Role role) const { return Of(role).startable; }
  const PrefillRanking& prefills(Role role) const { return Of(role).prefills; }
  // Workers that may take a request now and are not known to be out of room, the least loaded
  // first.
  const Ranking& decodes(Role role) const { return Of(role).decodes; }
  // Accepting workers with a step model, the quickest first at a thousand tokens.
  const Ranking& quickest_prefill(Role role) const { return Of(role).quickest_prefill; }
  const Ranking& quickest_decode(Role role) const { return Of(role).quickest_decode; }

  uint64_t model_fingerprint() const { return model_fingerprint_; }
  // Of the first accepted worker; empty before.
  const std::optional<WorkerInfo>& model_info() const { return model_info_; }

 private:
  struct Pool {
    explicit Pool(const ClusterOptions& options)
        : startable(options.num_workers),
          prefills(options.num_workers),
          decodes(options.num_workers),
          quickest_prefill(options.num_workers),
          quickest_decode(options.num_workers),
          ejection(options.ejection, options.num_workers) {}
    int32_t alive = 0;
    int32_t accepting = 0;
    PrefillRanking startable, prefills;
    Ranking decodes, quickest_prefill, quickest_decode;
    EjectionPool ejection;
  };

  WorkerState& At(WorkerIndex index);
  const Pool& Of(Role role) const { return pools_[static_cast<size_t>(role)]; }
  // Before and after anything that changes who is alive or accepts.
  void Count(const WorkerState& worker, int32_t by);
  void RankPrefill(WorkerIndex index);
  void RankDecode(WorkerIndex index);
  void RankProbing(WorkerIndex index);
  void RankQuickest(WorkerIndex index);
  void RankAll(WorkerIndex index);
  void TakeOut(WorkerIndex index);
  // What the pool's ejection has decided. REQUIRES: all workers are counted (see Count).
  void TakeStandings(Role role);
  EjectionPool& EjectionOf(Role role) { return pools_[static_cast<size_t>(role)].ejection; }

  const ClusterOptions options_;
  std::vector<WorkerState> workers_;  // [num_workers]
  std::vector<Pool> pools_;           // [3], by role
  WorkerRanking<absl::Time> heard_;   // live workers
  std::set<WorkerIndex> hung_;
  std::vector<WorkerIndex> standing_changes_;
  uint64_t model_fingerprint_ = 0;  // 0: not known yet
  std::optional<WorkerInfo> model_info_;
};

}  // namespace baton::router
