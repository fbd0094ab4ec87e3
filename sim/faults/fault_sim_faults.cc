// What strikes a simulated cluster, and the control connections that carry on under it.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/faults/fault_sim.h"

namespace baton::sim {
namespace {

constexpr absl::Duration kLeastLatency = absl::Microseconds(50);
constexpr absl::Duration kMostLatency = absl::Milliseconds(1);

}  // namespace

// ------------------------------------------------------------------ control connections

ControlSessionPtr FaultSim::Connect(int32_t worker, uint64_t life) {
  Slot& slot = slots_[static_cast<size_t>(worker)];
  if (slot.node == nullptr || slot.cut_from_router_until > events_.now()) return nullptr;
  std::erase_if(sessions_, [](const auto& each) {
    return !each.second->router_open && !each.second->worker_open;
  });
  auto session = std::make_shared<ControlSession>();
  session->number = next_session_++;
  session->worker = worker;
  session->boot = slot.node->id().boot;
  session->router_life = life;
  sessions_[session->number] = session;
  InNode(slot.node->id(), [session](WorkerNode& node) { node.OnSessionOpened(session); });
  return session;
}

template <typename Message>
void FaultSim::Write(const ControlSessionPtr& session, ControlSession::Stream<Message>& stream,
                     Message message) {
  const Slot& slot = slots_[static_cast<size_t>(session->worker)];
  absl::Duration latency = random_.Between(kLeastLatency, kMostLatency);
  if (slot.slow_control_until > events_.now()) {
    latency += random_.Between(absl::ZeroDuration(), slot.control_delay);
  }
  absl::Time ready = events_.now() + latency;
  if (!stream.in_flight.empty()) ready = std::max(ready, stream.in_flight.back().ready);
  stream.in_flight.push_back({ready, std::move(message)});
}

void FaultSim::Send(const ControlSessionPtr& session, ToWorker message) {
  Write(session, session->to_worker, std::move(message));
  PumpToWorker(session);
}

void FaultSim::Send(const ControlSessionPtr& session, ToRouter message) {
  Write(session, session->to_router, std::move(message));
  PumpToRouter(session);
}

// Messages wait while their connection is cut, and go on in order when it is whole again, as TCP's
// do; those to a process that is gone are answered by a reset.
void FaultSim::PumpToWorker(const ControlSessionPtr& session) {
  auto& stream = session->to_worker;
  if (stream.in_flight.empty() || std::exchange(stream.pumping, true)) return;
  const Slot& slot = slots_[static_cast<size_t>(session->worker)];
  const absl::Time at =
      std::max({stream.in_flight.front().ready, slot.cut_from_router_until, slot.paused_until});
  events_.At(at, [this, session] {
    auto& mine = session->to_worker;
    mine.pumping = false;
    if (mine.in_flight.empty()) return;
    const Slot& there = slots_[static_cast<size_t>(session->worker)];
    const absl::Time now = events_.now();
    if (there.cut_from_router_until > now || there.paused_until > now ||
        mine.in_flight.front().ready > now) {
      return PumpToWorker(session);
    }
    ToWorker message = std::move(mine.in_flight.front().message);
    mine.in_flight.pop_front();
    const ProcessId process{session->worker, session->boot};
    if (WorkerNode* const node = Node(process)) {
      if (session->worker_open) {
        node->OnMessage(session, std::move(message));
        AfterNode(*node);
      }
    } else if (there.node != nullptr && session->router_open &&
               session->to_router.in_flight.empty()) {
      Send(session, ToRouter(Closed{"reset by another life of the worker"}));
    }
    PumpToWorker(session);
  });
}

void FaultSim::PumpToRouter(const ControlSessionPtr& session) {
  auto& stream = session->to_router;
  if (stream.in_flight.empty() || std::exchange(stream.pumping, true)) return;
  const Slot& slot = slots_[static_cast<size_t>(session->worker)];
  const absl::Time at = std::max(stream.in_flight.front().ready, slot.cut_from_router_until);
  events_.At(at, [this, session] {
    auto& mine = session->to_router;
    mine.pumping = false;
    if (mine.in_flight.empty()) return;
    if (slots_[static_cast<size_t>(session->worker)].cut_from_router_until > events_.now() ||
        mine.in_flight.front().ready > events_.now()) {
      return PumpToRouter(session);
    }
    ToRouter message = std::move(mine.in_flight.front().message);
    mine.in_flight.pop_front();
    if (router_ != nullptr && router_->life() == session->router_life) {
      router_->OnMessage(session, std::move(message));
      AfterRouter();
    } else if (session->worker_open && session->to_worker.in_flight.empty()) {
      // The router that listens there now, or nobody, knows nothing of it.
      if (router_ != nullptr) Send(session, ToWorker(Closed{"reset by another router"}));
    }
    PumpToRouter(session);
  });
}

// Of what is under way when a connection breaks, the end is lost.
void FaultSim::LoseSome(const ControlSessionPtr& session) {
  const auto lose = [this](auto& in_flight) {
    const auto kept = random_.Below(static_cast<int32_t>(in_flight.size()) + 1);
    in_flight.erase(in_flight.begin() + kept, in_flight.end());
  };
  lose(session->to_worker.in_flight);
  lose(session->to_router.in_flight);
}

// ------------------------------------------------------------------ faults

void FaultSim::Strike(const Fault& fault) {
  Slot& slot = slots_[static_cast<size_t>(fault.worker)];
  const absl::Time now = events_.now();
  const absl::Time until = now + fault.length;
  absl::Time over = until;
  if (history_.recording()) history_.Add(now, "FAULT", fault.ToString());
  switch (fault.kind) {
    case FaultKind::kCrash:
    case FaultKind::kSilentCrash:
      StopWorker(fault.worker, fault.kind == FaultKind::kSilentCrash);
      events_.At(until, [this, worker = fault.worker, lives = slot.lives] {
        const Slot& then = slots_[static_cast<size_t>(worker)];
        if (then.node == nullptr && then.lives == lives) StartWorker(worker);
      });
      break;
    case FaultKind::kPause:
      slot.paused_until = std::max(slot.paused_until, until);
      break;
    case FaultKind::kSlowSteps:
      if (slot.node == nullptr) return;
      slot.node->SlowDown(fault.amount / 100.0);
      slot.slow_steps_until = std::max(slot.slow_steps_until, until);
      events_.At(until, [this, id = slot.node->id()] {
        WorkerNode* const node = Node(id);
        if (node == nullptr) return;
        const Slot& then = slots_[static_cast<size_t>(id.worker)];
        if (then.slow_steps_until <= events_.now()) node->SlowDown(1);
      });
      break;
    case FaultKind::kClockJump:
      if (slot.node == nullptr) return;
      InNode(slot.node->id(), [by = fault.length](WorkerNode& node) { node.JumpAhead(by); });
      over = now;
      break;
    case FaultKind::kPartition:
      slot.cut_from_router_until = std::max(slot.cut_from_router_until, until);
      break;
    case FaultKind::kSessionReset:
      for (const auto& [number, session] : sessions_) {
        if (session->worker != fault.worker) continue;
        LoseSome(session);
        if (session->worker_open) Send(session, ToWorker(Closed{"broken"}));
        if (session->router_open) Send(session, ToRouter(Closed{"broken"}));
      }
      break;
    case FaultKind::kSlowControl:
      slot.control_delay = fault.length;
      over = now + 10 * fault.length;
      slot.slow_control_until = std::max(slot.slow_control_until, over);
      break;
    case FaultKind::kKvPartition:
      slot.cut_from_peers_until = std::max(slot.cut_from_peers_until, until);
      network_.Cut(fault.worker, /*silent=*/true);
      break;
    case FaultKind::kKvReset:
      network_.Cut(fault.worker, /*silent=*/false);
      break;
    case FaultKind::kKvNoise:
      slot.noise_percent = fault.amount;
      slot.noise_until = std::max(slot.noise_until, until);
      break;
    case FaultKind::kLateWrites:
      slot.late_writes = fault.amount;
      slot.late_writes_until = std::max(slot.late_writes_until, until);
      break;
    case FaultKind::kDrain:
      if (slot.node == nullptr) return;
      history_.Add(now, slot.node->name(), "drains");
      InNode(slot.node->id(), [](WorkerNode& node) { node.Drain(); });
      events_.At(until, [this, id = slot.node->id()] {
        if (Node(id) == nullptr) return;
        StopWorker(id.worker, /*silent=*/false);
        StartWorker(id.worker);
      });
      break;
    case FaultKind::kRouterCrash:
      StopRouter();
      events_.At(until, [this] {
        if (router_ == nullptr) StartRouter();
      });
      break;
  }
  // A KV connection has two ends.
  const bool touches_peers =
      fault.kind == FaultKind::kKvPartition || fault.kind == FaultKind::kKvReset ||
      fault.kind == FaultKind::kKvNoise || fault.kind == FaultKind::kLateWrites;
  for (Slot& each : slots_) {
    if (&each != &slot && !touches_peers) continue;
    each.last_trouble = std::max(each.last_trouble, over + absl::Seconds(1));
  }
  faults_over_ = std::max(faults_over_, over);
}

KvWeather FaultSim::Weather(int32_t worker) const {
  const Slot& slot = slots_[static_cast<size_t>(worker)];
  const absl::Time now = events_.now();
  KvWeather weather;
  if (slot.noise_until > now) weather.noise_percent = slot.noise_percent;
  if (slot.late_writes_until > now) weather.slow_writes = slot.late_writes;
  weather.partitioned = slot.cut_from_peers_until > now;
  return weather;
}

}  // namespace baton::sim
