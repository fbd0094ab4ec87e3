#include "sim/faults/fault_sim.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/check.h"

namespace baton::sim {
namespace {

constexpr absl::Duration kAbortBound = absl::Seconds(1);  // H8
// Until the transport has let go: receives that do not end are ended with their connection.
constexpr absl::Duration kReleaseBound = absl::Seconds(7);
constexpr absl::Duration kSettleTime = absl::Seconds(30);  // after the last fault and deadline
constexpr int64_t kMostEvents = 2'000'000;                 // a run that does not end

// A failed BATON_CHECK of a core ends the run, not the process.
[[noreturn]] void ThrowViolation(const std::string& message) { throw Violation(message); }

}  // namespace

FaultSim::FaultSim(const Schedule& schedule, const Mutations& mutations, bool record)
    : schedule_(schedule),
      mutations_(mutations),
      history_(record),
      random_(HashCombine(schedule.seed, 2)),
      network_(events_, *this, HashCombine(schedule.seed, 3)),
      clients_(schedule),
      slots_(schedule.workers.size()),
      faults_over_(absl::UnixEpoch()) {}

FaultSim::~FaultSim() = default;

FaultResult FaultSim::Run() {
  FaultResult result;
  const ScopedCheckHandler checks(&ThrowViolation);
  try {
    for (int32_t i = 0; i < static_cast<int32_t>(slots_.size()); ++i) StartWorker(i);
    StartRouter();
    for (const PlannedRequest& plan : schedule_.requests) PlanRequest(plan);
    for (const Fault& fault : schedule_.faults) {
      events_.At(absl::UnixEpoch() + fault.at, [this, &fault] { Strike(fault); });
    }
    while (!events_.empty() && !Quiet()) {
      events_.RunNext();
      if (++result.events > kMostEvents) throw Violation("H5: the run does not end");
      if (const std::string late = clients_.Overdue(events_.now()); !late.empty()) {
        throw Violation("H5: " + late);
      }
    }
    CheckAtEnd();
  } catch (const Violation& violation) {
    result.violation = violation.what();
  } catch (const std::exception& thrown) {
    result.violation = absl::StrCat("a core threw ", thrown.what());
  }
  if (!result.violation.empty()) {
    history_.Add(events_.now(), "VIOLATION", result.violation);
    Bury();
  }
  result.completed = clients_.completed();
  result.failed = clients_.failed();
  result.payload_blocks = network_.payloads_landed();
  result.ejections = ejections_;
  result.history = history_.lines();
  return result;
}

// What broke may be broken so that it cannot be destroyed: it stays as it is, until the process
// ends.
void FaultSim::Bury() {
  static absl::Mutex mutex;
  static auto* const workers = new std::vector<std::unique_ptr<WorkerNode>>;
  static auto* const routers = new std::vector<std::unique_ptr<RouterNode>>;
  absl::MutexLock lock(&mutex);
  for (Slot& slot : slots_) workers->push_back(std::move(slot.node));
  routers->push_back(std::move(router_));
}

void FaultSim::PlanRequest(const PlannedRequest& plan) {
  const absl::Time comes = absl::UnixEpoch() + plan.at;
  const auto at = [this](absl::Time when, std::function<void(RouterNode&)> happen) {
    events_.At(when, [this, happen = std::move(happen)] {
      if (router_ == nullptr) return;
      happen(*router_);
      AfterRouter();
    });
  };
  faults_over_ = std::max(faults_over_, comes + plan.timeout);
  events_.At(comes, [this, &plan] {
    if (router_ == nullptr) clients_.OnRefused(plan.id);
  });
  at(comes, [this, &plan](RouterNode& router) {
    attempts_[plan.id] = 0;
    router.Submit(plan);
  });
  if (plan.cancel_after.has_value()) {
    at(comes + *plan.cancel_after, [&plan](RouterNode& router) { router.Cancel(plan.id); });
  }
  if (plan.stop_after.has_value()) {
    at(comes + *plan.stop_after, [&plan](RouterNode& router) { router.StopSample(plan.id, 0); });
  }
}

bool FaultSim::Quiet() const {
  return clients_.AllEnded() && events_.now() > faults_over_ + kSettleTime;
}

void FaultSim::CheckAtEnd() {
  if (!clients_.AllEnded()) throw Violation("H5: a request never ended");
  if (router_ != nullptr) router_->CheckAtRest();
  for (const Slot& slot : slots_) {
    if (slot.node != nullptr) slot.node->CheckAtRest();
  }
}

// ------------------------------------------------------------------ processes

WorkerNode* FaultSim::Node(ProcessId process) {
  WorkerNode* const node = slots_[static_cast<size_t>(process.worker)].node.get();
  return node != nullptr && node->id() == process ? node : nullptr;
}

std::optional<ProcessId> FaultSim::Running(int32_t worker) {
  const WorkerNode* const node = slots_[static_cast<size_t>(worker)].node.get();
  if (node == nullptr) return std::nullopt;
  return node->id();
}

void FaultSim::InNode(ProcessId process, std::function<void(WorkerNode&)> run) {
  const Slot& slot = slots_[static_cast<size_t>(process.worker)];
  if (slot.paused_until > events_.now()) {
    events_.At(slot.paused_until, [this, process, run = std::move(run)] { InNode(process, run); });
    return;
  }
  WorkerNode* const node = Node(process);
  if (node == nullptr) return;
  run(*node);
  AfterNode(*node);
}

void FaultSim::InProcess(ProcessId process, std::function<void(KvEnd&)> run) {
  InNode(process, [run = std::move(run)](WorkerNode& node) {
    node.HandleKvCommands();
    run(node);
  });
}

void FaultSim::AfterNode(WorkerNode& node) {
  node.Turn();
  Slot& slot = slots_[static_cast<size_t>(node.id().worker)];
  const ProcessId id = node.id();
  if (const absl::Time at = std::max(events_.now(), node.NextTime());
      at < slot.wake_at || slot.wake_at < events_.now()) {
    slot.wake_at = at;
    events_.At(at, [this, id, at] {
      Slot& mine = slots_[static_cast<size_t>(id.worker)];
      if (mine.wake_at != at) return;
      mine.wake_at = absl::InfiniteFuture();
      InNode(id, [](WorkerNode& worker) { worker.OnTime(); });
    });
  }
  if (const absl::Time at = node.NextStepEvent(); at != slot.step_at) {
    slot.step_at = at;
    events_.At(at, [this, id, at] {
      Slot& mine = slots_[static_cast<size_t>(id.worker)];
      if (mine.step_at != at) return;
      InNode(id, [](WorkerNode& worker) { worker.StepEvent(); });
    });
  }
}

void FaultSim::AfterRouter() {
  if (router_ == nullptr) return;
  for (auto at = attempts_.begin(); at != attempts_.end();) {
    const uint32_t attempts = router_->attempts(at->first);
    if (router_->Holds(at->first)) {
      at->second = std::max(at->second, attempts);
      ++at;
    } else {
      WatchAborts(at->first, at->second);
      at = attempts_.erase(at);
    }
  }
  const absl::Time next = std::max(events_.now(), router_->NextTime());
  if (next >= router_wake_at_ && router_wake_at_ >= events_.now()) return;
  router_wake_at_ = next;
  events_.At(next, [this, next, life = router_->life()] {
    if (router_wake_at_ != next || router_ == nullptr || router_->life() != life) return;
    router_wake_at_ = absl::InfiniteFuture();
    router_->OnTime();
    AfterRouter();
  });
}

// H8. Where nothing kept the abort from arriving.
void FaultSim::WatchAborts(RequestId request, uint32_t attempts) {
  const absl::Time ended = events_.now();
  for (int32_t i = 0; i < static_cast<int32_t>(slots_.size()); ++i) {
    const auto running = Running(i);
    if (!running.has_value()) continue;
    for (const bool or_waits : {false, true}) {
      const absl::Duration bound = or_waits ? kReleaseBound : kAbortBound;
      events_.After(bound, [this, request, attempts, ended, or_waits, bound, id = *running] {
        const WorkerNode* const node = Node(id);
        const Slot& slot = slots_[static_cast<size_t>(id.worker)];
        if (node == nullptr || slot.last_trouble >= ended || router_ == nullptr) return;
        if (!node->HasSession(router_->life())) return;
        if (node->WorksFor(request, attempts, or_waits)) {
          throw Violation(absl::StrCat("H8: ", node->name(), or_waits ? " holds" : " works for",
                                       " request ", request.value(), " ",
                                       absl::FormatDuration(bound), " after its end"));
        }
      });
    }
  }
}

void FaultSim::StartWorker(int32_t worker) {
  Slot& slot = slots_[static_cast<size_t>(worker)];
  const uint64_t boot = static_cast<uint64_t>(worker + 1) * 1000 + ++slot.lives;
  const ProcessId id{worker, BootId(boot)};
  slot.node = std::make_unique<WorkerNode>(id, schedule_.workers[static_cast<size_t>(worker)],
                                           World(), HashCombine(schedule_.seed, boot));
  slot.wake_at = slot.step_at = absl::InfiniteFuture();
  history_.Add(events_.now(), slot.node->name(), "starts");
  AfterNode(*slot.node);
}

void FaultSim::StopWorker(int32_t worker, bool silent) {
  Slot& slot = slots_[static_cast<size_t>(worker)];
  if (slot.node == nullptr) return;
  const ProcessId id = slot.node->id();
  history_.Add(events_.now(), slot.node->name(), silent ? "dies, and nobody is told" : "dies");
  slot.node.reset();
  slot.paused_until = events_.now();
  network_.Died(id, silent);
  for (const auto& [number, session] : sessions_) {
    if (session->worker != worker || session->boot != id.boot) continue;
    if (!std::exchange(session->worker_open, false)) continue;
    LoseSome(session);
    if (!silent) Send(session, ToRouter(Closed{"the worker died"}));
  }
}

void FaultSim::StartRouter() {
  router_ = std::make_unique<RouterNode>(
      ++router_lives_, static_cast<int32_t>(slots_.size()), World(), clients_,
      [this](int32_t worker, uint64_t life) { return Connect(worker, life); });
  router_wake_at_ = absl::InfiniteFuture();
  AfterRouter();
}

void FaultSim::StopRouter() {
  if (router_ == nullptr) return;
  history_.Add(events_.now(), "router", "dies");
  const uint64_t life = router_->life();
  router_.reset();
  attempts_.clear();
  clients_.OnRouterDied();
  const bool silent = random_.Chance(30);
  for (const auto& [number, session] : sessions_) {
    if (session->router_life != life) continue;
    if (!std::exchange(session->router_open, false)) continue;
    LoseSome(session);
    if (!silent) Send(session, ToWorker(Closed{"the router died"}));
  }
}

}  // namespace baton::sim
