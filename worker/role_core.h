// What the step loop drives: the state machine of one worker role.
#pragma once

#include <variant>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/runtime/engine.h"
#include "kvtransfer/handoff.h"
#include "worker/messages.h"

namespace baton {

using HandoffEvent = std::variant<SenderEvent, ReceiverEvent>;

// The core's own numbers; the engine's come from its scheduler.
struct RoleView {
  int32_t open = 0;     // keys that owe the router a terminal or an unfinished handoff
  int32_t closing = 0;  // keys that have ended and wait for the transport to let go of blocks
  int32_t credits = 0;  // prefills or generations that could start now
  bool draining = false;
  // Totals since the start.
  uint64_t prompt_tokens = 0;
  uint64_t generation_tokens = 0;
  uint64_t finished_stop = 0;
  uint64_t finished_length = 0;
  uint64_t finished_abort = 0;
  uint64_t failed = 0;
  bool idle() const { return open == 0 && closing == 0; }
};

// Pure: no thread, clock, socket or random source. Everything is called on the step thread, never
// from inside a call that the core makes. All but the commands Prefill and Generate may also be
// called between the scheduler's Plan and Commit. It calls out through the ports that it
// was made with: the scheduler (itself pure) and, posting only, the KV sender or receiver and the
// routers.
class RoleCore {
 public:
  virtual ~RoleCore() = default;

  virtual void OnCommand(SessionId session, WorkerCommand command, absl::Time now) = 0;
  // The session is gone: everything of it is aborted, nothing is sent.
  virtual void OnSessionEnd(SessionId session, absl::Time now) = 0;
  virtual void OnHandoff(const HandoffEvent& event, absl::Time now) = 0;

  // The KV of the step's rows is final in `layer`. Called between the scheduler's Plan and Commit.
  virtual void OnLayer(int32_t layer, const StepPlan& plan, absl::Time step_start) = 0;
  // What came of a step: before the next one's OnLayer. Until then the scheduler is ahead: it has
  // forgotten sequences whose end `result` tells.
  virtual void OnStep(StepResult result, absl::Time now) = 0;

  // Ends what is past its deadline. `NextDeadline`: when that could next be.
  virtual void OnTime(absl::Time now) = 0;
  virtual absl::Time NextDeadline() const = 0;

  // Refuse what is new, finish what is open. Idempotent.
  virtual void OnDrain() = 0;
  // The engine cannot step any more: every open key fails with INTERNAL.
  virtual void OnEngineBroken(const absl::Status& status, absl::Time now) = 0;

  virtual RoleView view() const = 0;
  // Aborts the process when the core's books disagree with each other.
  virtual void CheckInvariants() const = 0;
};

}  // namespace baton
