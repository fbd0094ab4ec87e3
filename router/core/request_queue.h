// The one queue of the system: what is admitted and not yet dispatched.
//
// Each pair of tenant and SLO class is a flow. Within a flow the order is priority, then rank, then
// arrival. Rank is the latest start that still meets the TTFT objective (its slack at any moment is
// rank - now, so waiting alone never changes the order), bounded by max_slack. Between flows the
// front with the least
//
//     rank + kFairness · (service that its flow has had / its class's weight)
//
// goes first, so slack decides while nobody takes more than a share, and the more of the cluster a
// flow has used while others waited, the later its next request counts. A flow that comes back
// starts at the least service of those that wait: being away saves nothing up.
//
// A request whose rank has passed cannot meet its objective any more: it is `late`, and ranks
// late_patience later (or its own patience, if that is less), behind those that still can. With its
// TTFT objective for patience it goes behind those that are there, and before what comes after that
// moment: under overload it would else be served when the load is over. One that comes back after a
// lost attempt is never late: its client is already being served.
//
// Nothing starves. Let r be the front of its flow with rank R when its flow has had S more service
// than the least. What arrives after R + late_patience + kFairness·S ranks behind it, whoever sends
// it, so r waits for work that arrived before that moment at most. tests/unit/router/core shows it.
//
// All operations but TimeInHandBehindMs are O(log n). Not thread-safe. Pure.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "router/core/work_ledger.h"

namespace baton::router {

struct QueueLimits {
  int32_t max_requests = 4096;
  int64_t max_bytes = int64_t{256} << 20;         // of prompts
  int64_t max_tenant_bytes = int64_t{128} << 20;  // of one tenant's; tenant 0 is nobody
  absl::Duration max_slack = absl::Seconds(60);
  absl::Duration late_patience = absl::Seconds(10);
};

class RequestQueue {
 public:
  static constexpr double kFairness = 8;

  struct Entry {
    RequestId request;
    uint64_t tenant = 0;
    int32_t slo_class = 0;
    double weight = 1;  // of the class
    int32_t priority = 0;
    absl::Time arrival;
    absl::Time start_by;
    absl::Duration patience = absl::InfiniteDuration();  // late_patience at most
    uint64_t arrival_number = 0;                         // unique
    int64_t bytes = 0;
    QueuedWork work;
    bool returned = false;  // from a lost or refused attempt
  };

  // `shed_orders`: of each SLO class.
  RequestQueue(const QueueLimits& limits, std::vector<int32_t> shed_orders);
  ~RequestQueue();

  // For new requests. One that was dispatched and comes back is pushed without asking: it was
  // admitted before.
  bool HasRoom(uint64_t tenant, int64_t bytes) const;
  void Push(absl::Time now, Entry entry);
  // Nothing if it is not there.
  void Remove(RequestId request);
  // REQUIRES: !empty(). Moves those behind that have become late.
  RequestId Front(absl::Time now);
  // Removes it and charges its flow with `service_ms` of the whole cluster's time.
  void Dispatch(RequestId request, double service_ms);

  // What goes before a new entry, roughly: all of its own flow that ranks before it, and of the
  // others no more than their shares give them meanwhile. `workers` serve the queue at once.
  // `if_shed`: if all classes that are shed before its own had nothing here.
  QueuedWork Ahead(const Entry& entry, absl::Time now, int32_t workers, bool if_shed) const;
  // Of those of its flow that would rank behind a new entry and are not late: how much later the
  // queue could come to each and still be in time, the least of that. `ms_per_ms`: how long the
  // cluster takes for a millisecond of queued prefill. Infinity: there are none. O(slots of 64 ms
  // in use).
  double TimeInHandBehindMs(const Entry& entry, absl::Time now, int32_t workers, double ms_per_ms,
                            bool if_shed) const;
  // The last one that ranks before `rank` in the class that is shed first, of those that are shed
  // before `slo_class`.
  std::optional<RequestId> ShedVictim(int32_t slo_class, absl::Time rank) const;
  absl::Time RankOf(absl::Time now, absl::Time start_by) const;

  bool empty() const { return entries_.empty(); }
  int32_t size() const { return static_cast<int32_t>(entries_.size()); }
  int64_t bytes() const { return bytes_; }

 private:
  struct Flow;
  using FlowKey = std::pair<uint64_t, int32_t>;  // tenant, SLO class
  struct Queued {
    Entry entry;
    absl::Time rank;
    bool late = false;
    Flow* flow = nullptr;
  };
  // Within a flow: priority, rank, arrival number. In a class: the same without the priority.
  struct Place {
    int32_t priority = 0;
    absl::Time rank;
    uint64_t arrival_number = 0;
    RequestId request;
    friend bool operator<(const Place& a, const Place& b) {
      return std::tie(a.priority, a.rank, a.arrival_number) <
             std::tie(b.priority, b.rank, b.arrival_number);
    }
  };
  struct Class {
    int32_t shed_order = 0;
    double waiting_weight = 0;  // of its flows that wait
    WorkLedger work;
    absl::btree_set<Place> by_rank;
  };

  struct RankedEntry {
    const Entry& entry;
    absl::Time rank, now;
    int32_t workers;
  };
  const Flow* WaitingFlow(const Entry& entry) const;  // that it would join; null: none waits
  bool ShedFirst(const Class& other, const Entry& entry) const;
  double OthersWeight(const Flow* flow, const Entry& entry, bool if_shed) const;
  static QueuedWork FairlyAhead(const QueuedWork& own, const QueuedWork& all, double others_weight,
                                const RankedEntry& at);
  static Place PlaceOf(const Queued& queued, bool with_priority);
  void Insert(Queued& queued);
  void Erase(const Queued& queued);
  void RankFlow(Flow& flow);
  void Unrank(Flow& flow);
  void MayForget(Flow& flow);
  double LeastService() const;
  double KeyOf(const Flow& flow) const;
  Class& ClassOf(const Queued& queued) {
    return classes_[static_cast<size_t>(queued.entry.slo_class)];
  }

  const QueueLimits limits_;
  std::vector<Class> classes_;
  absl::flat_hash_map<RequestId, Queued> entries_;
  absl::flat_hash_map<FlowKey, std::unique_ptr<Flow>> flows_;
  absl::btree_set<std::tuple<double, uint64_t, Flow*>> fronts_;      // key, arrival number
  absl::btree_set<std::tuple<double, uint64_t, Flow*>> services_;    // of flows that wait
  absl::btree_set<std::tuple<double, uint64_t, Flow*>> remembered_;  // of flows that do not
  absl::flat_hash_map<uint64_t, int64_t> tenant_bytes_;
  double least_service_ = 0;  // never goes back
  uint64_t next_flow_ = 0;
  absl::Time origin_ = absl::InfinitePast();  // keys count from here
  int64_t bytes_ = 0;
};

}  // namespace baton::router
