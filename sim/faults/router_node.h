// The router of the simulated cluster, in one life: the production core, and the connections that
// router/link keeps.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "router/core/router_core.h"
#include "sim/faults/clients.h"
#include "sim/faults/control.h"
#include "sim/faults/worker_node.h"

namespace baton::sim {

class RouterNode {
 public:
  // `connect` opens a session; null: nobody answers.
  using ConnectFn = std::function<ControlSessionPtr(int32_t worker, uint64_t life)>;

  RouterNode(uint64_t life, int32_t num_workers, const Surroundings& world, Clients& clients,
             ConnectFn connect);

  void Submit(const PlannedRequest& plan);
  void Cancel(RequestId request);
  void StopSample(RequestId request, int32_t sample);
  void OnMessage(const ControlSessionPtr& session, ToRouter message);
  void OnTime();
  absl::Time NextTime() const;  // when OnTime is due

  uint64_t life() const { return life_; }
  absl::Time Now() const { return world_.events.now(); }
  bool Holds(RequestId request) const { return core_.Find(request) != nullptr; }
  // Attempts of the request so far; 0: it is not held.
  uint32_t attempts(RequestId request) const;
  void CheckAtRest() const;  // Throws Violation.

 private:
  struct Link {
    ControlSessionPtr session;
    absl::Time next_try;
    int32_t tries = 0;
  };

  void Feed(router::Event event) { Take(core_.Handle(Now(), std::move(event))); }
  void Take(std::vector<router::Action> actions);
  template <typename Action>
  void ToWorkerOf(const Action& action);
  void CloseLink(int32_t worker, const std::string& reason);
  void Connect(int32_t worker);
  void Note(const std::string& whose, router::Standing standing, int64_t* ejections);
  void Log(std::string what) { world_.history.Add(Now(), "router", std::move(what)); }

  const uint64_t life_;
  const Surroundings world_;
  Clients& clients_;
  const ConnectFn connect_;
  router::RouterCore core_;
  std::vector<Link> links_;
  absl::Time next_heartbeat_;
};

}  // namespace baton::sim
