#include "router/core/request_queue.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/check.h"

namespace baton::router {

struct RequestQueue::Flow {
  FlowKey key;
  uint64_t number = 0;  // makes the order of equal flows the same in every run
  double weight = 1;
  double service = 0;  // ms of the cluster over weight
  absl::btree_set<Place> places;
  WorkLedger work;
  WorkLedger in_time;                               // of these, what is not late
  std::tuple<double, uint64_t, Flow*> front, rank;  // what fronts_ and services_ hold, if it waits
  bool ranked = false;
};

RequestQueue::RequestQueue(const QueueLimits& limits, std::vector<int32_t> shed_orders)
    : limits_(limits), classes_(shed_orders.size()) {
  for (size_t i = 0; i < classes_.size(); ++i) classes_[i].shed_order = shed_orders[i];
}

RequestQueue::~RequestQueue() = default;

bool RequestQueue::HasRoom(uint64_t tenant, int64_t bytes) const {
  if (size() >= limits_.max_requests || bytes_ + bytes > limits_.max_bytes) return false;
  if (tenant == 0) return true;
  const auto found = tenant_bytes_.find(tenant);
  return (found == tenant_bytes_.end() ? 0 : found->second) + bytes <= limits_.max_tenant_bytes;
}

absl::Time RequestQueue::RankOf(absl::Time now, absl::Time start_by) const {
  return std::clamp(start_by, now, now + limits_.max_slack);
}

RequestQueue::Place RequestQueue::PlaceOf(const Queued& queued, bool with_priority) {
  return {with_priority ? queued.entry.priority : 0, queued.rank, queued.entry.arrival_number,
          queued.entry.request};
}

// ------------------------------------------------------------------ in and out

void RequestQueue::Push(absl::Time now, Entry entry) {
  BATON_CHECK(!entries_.contains(entry.request)) << "request " << entry.request << " is queued";
  if (origin_ == absl::InfinitePast()) origin_ = now;
  std::unique_ptr<Flow>& slot = flows_[{entry.tenant, entry.slo_class}];
  if (slot == nullptr) {
    slot = std::make_unique<Flow>();
    slot->key = {entry.tenant, entry.slo_class};
    slot->number = next_flow_++;
    slot->weight = std::max(1e-6, entry.weight);
  }
  Flow& flow = *slot;
  if (flow.places.empty()) {
    remembered_.erase({flow.service, flow.number, &flow});
    flow.service = std::max(flow.service, LeastService());
  }
  const RequestId request = entry.request;
  bytes_ += entry.bytes;
  if (entry.tenant != 0) tenant_bytes_[entry.tenant] += entry.bytes;
  Queued& queued = entries_[request];
  queued.rank = RankOf(entry.arrival, entry.start_by);
  queued.entry = entry;
  queued.flow = &flow;
  Insert(queued);
}

void RequestQueue::Remove(RequestId request) {
  const auto found = entries_.find(request);
  if (found == entries_.end()) return;
  const Queued queued = found->second;
  Erase(queued);
  entries_.erase(found);
  bytes_ -= queued.entry.bytes;
  if (queued.entry.tenant != 0) {
    const auto tenant = tenant_bytes_.find(queued.entry.tenant);
    tenant->second -= queued.entry.bytes;
    if (tenant->second <= 0) tenant_bytes_.erase(tenant);
  }
  MayForget(*queued.flow);
}

void RequestQueue::Dispatch(RequestId request, double service_ms) {
  const auto found = entries_.find(request);
  BATON_CHECK(found != entries_.end()) << "request " << request << " is not queued";
  Flow& flow = *found->second.flow;
  // Out of the rankings first: they are ordered by what changes here.
  Unrank(flow);
  flow.service += service_ms / flow.weight;
  Remove(request);
}

RequestId RequestQueue::Front(absl::Time now) {
  while (true) {
    Flow& flow = *std::get<2>(*fronts_.begin());
    Queued& queued = entries_.at(flow.places.begin()->request);
    if (queued.late || queued.entry.returned || queued.rank >= now) return queued.entry.request;
    Erase(queued);
    queued.late = true;
    queued.rank += std::min(limits_.late_patience, queued.entry.patience);
    Insert(queued);
  }
}

// ------------------------------------------------------------------ order

double RequestQueue::KeyOf(const Flow& flow) const {
  return absl::ToDoubleMilliseconds(flow.places.begin()->rank - origin_) + kFairness * flow.service;
}

double RequestQueue::LeastService() const {
  return services_.empty() ? least_service_
                           : std::max(least_service_, std::get<0>(*services_.begin()));
}

void RequestQueue::Insert(Queued& queued) {
  ClassOf(queued).work.Add(queued.rank, queued.entry.work);
  queued.flow->work.Add(queued.rank, queued.entry.work);
  if (!queued.late) queued.flow->in_time.Add(queued.rank, queued.entry.work);
  ClassOf(queued).by_rank.insert(PlaceOf(queued, false));
  queued.flow->places.insert(PlaceOf(queued, true));
  RankFlow(*queued.flow);
}

void RequestQueue::Erase(const Queued& queued) {
  ClassOf(queued).work.Remove(queued.rank, queued.entry.work);
  queued.flow->work.Remove(queued.rank, queued.entry.work);
  if (!queued.late) queued.flow->in_time.Remove(queued.rank, queued.entry.work);
  ClassOf(queued).by_rank.erase(PlaceOf(queued, false));
  queued.flow->places.erase(PlaceOf(queued, true));
  RankFlow(*queued.flow);
}

void RequestQueue::Unrank(Flow& flow) {
  if (!std::exchange(flow.ranked, false)) return;
  fronts_.erase(flow.front);
  services_.erase(flow.rank);
  classes_[static_cast<size_t>(flow.key.second)].waiting_weight -= flow.weight;
}

void RequestQueue::RankFlow(Flow& flow) {
  Unrank(flow);
  if (flow.places.empty()) return;
  flow.ranked = true;
  classes_[static_cast<size_t>(flow.key.second)].waiting_weight += flow.weight;
  flow.front = {KeyOf(flow), flow.places.begin()->arrival_number, &flow};
  flow.rank = {flow.service, flow.number, &flow};
  fronts_.insert(flow.front);
  services_.insert(flow.rank);
  least_service_ = LeastService();
}

// A flow that waits for nothing is remembered for as long as it is ahead of those that do.
void RequestQueue::MayForget(Flow& flow) {
  if (flow.places.empty()) remembered_.insert({flow.service, flow.number, &flow});
  while (!remembered_.empty() &&
         (services_.empty() || std::get<0>(*remembered_.begin()) <= LeastService())) {
    Flow* const gone = std::get<2>(*remembered_.begin());
    remembered_.erase(remembered_.begin());
    flows_.erase(gone->key);
  }
}

// ------------------------------------------------------------------ what waits

QueuedWork RequestQueue::Ahead(const Entry& entry, absl::Time now, int32_t workers,
                               bool if_shed) const {
  const absl::Time rank = RankOf(now, entry.start_by);
  const Flow* const flow = WaitingFlow(entry);
  QueuedWork all;
  for (const Class& each : classes_) {
    if (!if_shed || !ShedFirst(each, entry)) all += each.work.Before(rank);
  }
  const QueuedWork own = flow == nullptr ? QueuedWork{} : flow->work.Before(rank);
  return FairlyAhead(own, all, OthersWeight(flow, entry, if_shed), {entry, rank, now, workers});
}

double RequestQueue::TimeInHandBehindMs(const Entry& entry, absl::Time now, int32_t workers,
                                        double ms_per_ms, bool if_shed) const {
  double least_ms = std::numeric_limits<double>::infinity();
  const Flow* const flow = WaitingFlow(entry);
  if (flow == nullptr) return least_ms;
  const double others_weight = OthersWeight(flow, entry, if_shed);
  WorkLedger::Cursor own(flow->work);
  std::vector<WorkLedger::Cursor> classes;
  for (const Class& each : classes_) {
    if (!if_shed || !ShedFirst(each, entry)) classes.emplace_back(each.work);
  }
  absl::Time before = RankOf(now, entry.start_by);  // where the one slot ends, the next begins
  flow->in_time.VisitAfter(before, [&](absl::Time rank) {
    QueuedWork all;
    for (WorkLedger::Cursor& each : classes) all += each.Before(before);
    const QueuedWork ahead =
        FairlyAhead(own.Before(before), all, others_weight, {entry, before, now, workers});
    before = rank;
    least_ms = std::min(least_ms, absl::ToDoubleMilliseconds(rank - now) -
                                      ms_per_ms * static_cast<double>(ahead.prefill_us) / 1000);
  });
  return least_ms;
}

const RequestQueue::Flow* RequestQueue::WaitingFlow(const Entry& entry) const {
  const auto found = flows_.find({entry.tenant, entry.slo_class});
  return found != flows_.end() && found->second->ranked ? found->second.get() : nullptr;
}

bool RequestQueue::ShedFirst(const Class& other, const Entry& entry) const {
  return other.shed_order > classes_[static_cast<size_t>(entry.slo_class)].shed_order;
}

double RequestQueue::OthersWeight(const Flow* flow, const Entry& entry, bool if_shed) const {
  double weight = flow == nullptr ? 0 : -flow->weight;
  for (const Class& each : classes_) {
    if (!if_shed || !ShedFirst(each, entry)) weight += each.waiting_weight;
  }
  return std::max(0.0, weight);
}

// Of `own` and `all` work that ranks before a moment, what goes before one like `entry` there.
QueuedWork RequestQueue::FairlyAhead(const QueuedWork& own, const QueuedWork& all,
                                     double others_weight, const RankedEntry& at) {
  QueuedWork others = -own;
  others += all;
  // While its flow is served its own work, each other flow gets its share; before that, what its
  // slack lets others take in advance.
  const double slack_us = absl::ToDoubleMicroseconds(at.rank - at.now) / kFairness * at.workers;
  const double weight = std::max(1e-6, at.entry.weight);
  const double own_us = static_cast<double>(own.prefill_us + at.entry.work.prefill_us);
  const double most_us = std::max(0.0, others_weight * (own_us / weight + slack_us));
  if (static_cast<double>(others.prefill_us) > most_us) {
    others = others.Share(most_us / static_cast<double>(others.prefill_us));
  }
  others += own;
  return others;
}

std::optional<RequestId> RequestQueue::ShedVictim(int32_t slo_class, absl::Time rank) const {
  int32_t order = classes_[static_cast<size_t>(slo_class)].shed_order;
  std::optional<RequestId> victim;
  for (const Class& each : classes_) {
    if (each.shed_order <= order) continue;
    const auto after = each.by_rank.lower_bound(Place{.priority = 0, .rank = rank});
    if (after == each.by_rank.begin()) continue;
    order = each.shed_order;
    victim = std::prev(after)->request;
  }
  return victim;
}

}  // namespace baton::router
