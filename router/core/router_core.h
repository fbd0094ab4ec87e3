// The router's decisions: admission, queue, placement, the life of each request over prefill and
// decode worker, retries and deadlines. A pure state machine: events and a time go in, actions come
// out. No thread, clock, socket or protobuf; the simulator runs the same class.
//
// Phases and their transitions: router/core/phase.h. Invariants, which tests check after each
// event: each request ends by exactly one CompleteRequest or FailRequest; the tokens of a sample go
// out in order and at most once (H6); a request that ends or is retried is aborted on every worker
// that still holds it (H8); with no request left, every count in the cluster view is zero.
//
// A lost attempt is made good by prefilling again elsewhere. Tokens do not depend on where they are
// computed, so those that the client has are dropped by index when they come again. A request with
// one sample resumes after what it has emitted instead: its new prompt is the old one and the
// emitted tokens but the last, which is drawn again to learn whether it ended the sample.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "router/core/admission.h"
#include "router/core/cluster_view.h"
#include "router/core/events.h"
#include "router/core/link_costs.h"
#include "router/core/mutations.h"
#include "router/core/pair_ejection.h"
#include "router/core/placement.h"
#include "router/core/predictor.h"
#include "router/core/prefix_index.h"
#include "router/core/request_queue.h"
#include "router/core/request_state.h"
#include "router/core/retry_budget.h"

namespace baton::router {

struct CoreOptions {
  ClusterOptions cluster;
  QueueLimits queue;
  PairEjectionOptions pairs;
  absl::Duration reserve_timeout = absl::Seconds(2);  // an answer to Reserve is due by then
  absl::Duration handoff_lease = absl::Seconds(60);
  // How long a queued request waits while no worker could serve it.
  absl::Duration no_worker_wait = absl::Seconds(4);
  int32_t max_attempts = 2;
  int32_t max_worker_deaths = 2;
  double retry_ratio = 0.2;
  double retry_capacity = 256;
  std::vector<SloClass> slo_classes = {SloClass{}};  // the default one first
  AdmissionOptions admission;
  // Prompts may be prefilled on decode workers, see placement.h.
  bool conditional_disaggregation = true;
  // A request rather waits than makes neighbours miss their TPOT, until late_patience after its own
  // TTFT cannot be met any more.
  bool hold_for_neighbours = true;
  size_t prefix_entries = size_t{1} << 22;  // (worker, block) pairs for each role
  RouterMutations mutations = {};
};

// Not thread-safe: one loop owns it.
class RouterCore {
 public:
  explicit RouterCore(const CoreOptions& options);

  // Applies one event and returns what it causes, in order. `now` never goes back.
  std::vector<Action> Handle(absl::Time now, Event event);
  // Applies what time alone causes: deadlines, dead workers.
  std::vector<Action> Tick(absl::Time now);
  // When Tick must be called at the latest.
  absl::Time NextTick() const;

  const ClusterView& cluster() const { return cluster_; }
  int32_t num_waiting() const { return queue_.size(); }
  int32_t num_running() const { return static_cast<int32_t>(requests_.size()) - queue_.size(); }
  // Open requests in `phase`; kDone: 0.
  int32_t num_in(Phase phase) const { return in_phase_[static_cast<size_t>(phase)]; }
  const PairEjection& pairs() const { return pairs_; }
  const std::array<PrefixIndex, 3>& prefixes() const { return prefixes_; }  // by role
  bool draining() const { return draining_; }
  // Null: unknown or ended.
  const RequestState* Find(RequestId id) const;

 private:
  // Which side of a pair an attempt was lost on.
  enum class Side { kPrefill, kDecode };
  struct Loss {
    Side side = Side::kPrefill;
    bool worker_died = false;
    std::string message;
    bool between = false;  // the two workers, neither of which is known to be at fault
  };

  // One for each event; router_core.cc, router_core_workers.cc, router_core_progress.cc.
  void On(const SubmitEvent& event);
  void On(const CancelEvent& event);
  void On(const SampleStoppedEvent& event);
  void On(const StreamBrokenEvent& event);
  void On(const DrainEvent& event);
  void On(const WorkerUpEvent& event);
  void On(const WorkerReportEvent& event);
  void On(const WorkerDownEvent& event);
  void On(const ReservedEvent& event);
  void On(const RefusedEvent& event);
  void On(PromptLogprobsEvent event);
  void On(TokensEvent event);
  void On(const PrefillDoneEvent& event);
  void On(const SealedEvent& event);
  void On(const JoinedEvent& event);
  void On(const FinishedEvent& event);
  void On(const FailedEvent& event);
  void On(const KvCacheEvent& event);

  // Admission and dispatch; router_core_dispatch.cc.
  bool Admit(const SubmitEvent& event);
  bool AdmitByForecast(const SubmitEvent& event, RequestState& request);
  int32_t PrefillWorkers() const;
  void Shed(RequestId victim);
  int32_t ShedOrderOf(int32_t slo_class) const;
  void Press(int32_t slo_class);
  void PrepareEntry(const SubmitEvent& event, RequestState& request);
  void DispatchQueued();
  void Dispatch(RequestState& request, const Placement& placement);
  void TakeWorkers(RequestState& request, const Placement& placement);
  PlacementParts Parts() const;
  PlacementQuery QueryFor(RequestState& request) const;
  double NominalPrefillMs(int64_t tokens) const;
  absl::Duration RetryAfter() const;

  void OnTimer(RequestState& request);

  // Workers; router_core_workers.cc.
  void WorkerLost(WorkerIndex worker, const std::string& reason);
  void NoteStandings();
  void PrefillLost(RequestState& request, const Loss& loss);
  bool FirstTokensOut(const RequestState& request) const;

  // Progress; router_core_progress.cc.
  RequestState* Current(const WorkerOrigin& from, const RequestKey& key);
  bool MayHold(const RequestState& request, const WorkerOrigin& from) const;
  void ReleaseHeld(RequestState& request);
  void EmitReady(RequestState& request, std::vector<TokenOutput> ready);
  void EmitFinishesAndCheck(RequestState& request);

  // The end of an attempt or a request; router_core_end.cc.
  void Move(RequestState& request, Trigger trigger);
  void Requeue(RequestState& request);
  void AttemptLost(RequestState& request, const Loss& loss);
  void ResumeSpec(RequestState& request);
  void AbortOnWorkers(RequestState& request);
  void ReleaseAttempt(RequestState& request);
  void ReturnCredit(RequestState& request);
  void Complete(RequestState& request);
  void Fail(RequestState& request, RequestErrorCode code, std::string message,
            Verdict verdict = Verdict::kAdmit);
  void RejectNew(const SubmitEvent& event, RequestErrorCode code, std::string message);
  void Refuse(const SubmitEvent& event, Verdict verdict, RequestError error);
  void Erase(RequestState& request);
  void SetTimer(RequestState& request);
  RequestSummary Summarize(const RequestState& request) const;

  const CoreOptions options_;
  ClusterView cluster_;
  RequestQueue queue_;
  std::array<PrefixIndex, 3> prefixes_;  // by role
  LinkCosts links_;
  PairEjection pairs_;
  OutputLengths lengths_;
  RetryBudget retries_;
  std::unordered_map<RequestId, std::unique_ptr<RequestState>> requests_;
  std::array<int32_t, kAllPhases.size()> in_phase_ = {};  // by Phase
  std::set<std::pair<absl::Time, RequestId>> timers_;     // one for each request
  absl::Time now_ = absl::InfinitePast();
  absl::Time cannot_serve_since_ = absl::InfinitePast();  // meaningful while !CanServe()
  bool could_serve_ = false;
  bool draining_ = false;
  int32_t pressed_by_ = 0;  // classes with a larger shed order are refused until then
  absl::Time pressed_until_ = absl::InfinitePast();
  bool dispatch_due_ = false;
  absl::Time dispatch_at_ = absl::InfiniteFuture();  // when to look again, if nothing happens
  uint64_t next_arrival_number_ = 0;
  double prefill_ms_per_token_ = 0;  // moving average; 0 until known
  absl::Time last_dispatch_ = absl::InfinitePast();
  double dispatch_interval_ms_ = 0;  // moving average while the queue was not empty; 0 until known
  WaitError wait_error_;
  double in_place_share_ = 0;  // see PlacementParts; a moving mean
  std::vector<Action> actions_;
};

}  // namespace baton::router
