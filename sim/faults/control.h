// The control connections of a simulated cluster: one Session stream between a router and a worker,
// as ordered messages that are not lost while it lasts, and what the messages are.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <variant>

#include "absl/time/time.h"
#include "common/ids.h"
#include "router/core/events.h"
#include "worker/messages.h"
#include "worker/session_table.h"
#include "worker/status_snapshot.h"

namespace baton::sim {

struct Heartbeat {};
struct Closed {  // the last message of a side
  std::string reason;
};
using ToWorker = std::variant<HelloInfo, Heartbeat, WorkerCommand, Closed>;
using ToRouter = std::variant<router::Event, Closed>;

// Each side reads what the other wrote, in order, some time later.
struct ControlSession {
  uint64_t number = 0;  // names it on both sides
  int32_t worker = 0;
  BootId boot;               // of the worker that it reached
  uint64_t router_life = 0;  // of the router that opened it
  bool router_open = true;   // that side still speaks and listens
  bool worker_open = true;

  template <typename Message>
  struct Stream {
    struct InFlight {
      absl::Time ready;
      Message message;
    };
    std::deque<InFlight> in_flight;
    bool pumping = false;  // a delivery is planned
  };
  Stream<ToWorker> to_worker;
  Stream<ToRouter> to_router;

  router::WorkerOrigin origin() const {
    return {router::WorkerIndex(worker), router::SessionId(number)};
  }
};
using ControlSessionPtr = std::shared_ptr<ControlSession>;  // shared by its two sides

// Writes to a session.
class ControlPlane {
 public:
  virtual ~ControlPlane() = default;
  virtual void Send(const ControlSessionPtr& session, ToWorker message) = 0;
  virtual void Send(const ControlSessionPtr& session, ToRouter message) = 0;
};

// What the shells convert by way of protobuf.
router::Event EventOf(const router::WorkerOrigin& from, WorkerReply reply);
router::KvCacheEvent EventOf(const router::WorkerOrigin& from, KvBatch batch);
router::WorkerReportEvent EventOf(const router::WorkerOrigin& from, const StatusSnapshot& status,
                                  absl::Time now);
WorkerCommand CommandOf(const router::SendReserve& action);
WorkerCommand CommandOf(const router::SendPrefill& action);
WorkerCommand CommandOf(const router::SendGenerate& action);
WorkerCommand CommandOf(const router::SendAbort& action);

}  // namespace baton::sim
