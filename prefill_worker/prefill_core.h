// The state machine of a prefill worker: one entry for each accepted key, from Prefill to the
// moment when no send reads its blocks any more.
//
// States of a key
//   kQueued     in the engine's waiting list; the handoff is announced to the decode worker
//   kComputing  its first chunk has started; finished layers go out as they come
//   kSending    first tokens drawn and sent, PrefillDone sent, handoff finished from here;
//               waits for the receiver's seal
//   kClosing    over for the router; waits for Released, then gives the blocks back
//
// Transitions (everything else leaves the state as it is)
//   -                    Prefill, accepted       kQueued     scheduler Add, sender Open
//   -                    Prefill, refused        -           Refused
//   kQueued              its first row runs      kComputing  -
//   kComputing           a layer is done         kComputing  sender Push
//   kQueued, kComputing  first tokens            same        Tokens
//   kComputing           engine PromptDone       kSending    PrefillDone, sender Finish
//   kQueued, kComputing  engine Failed           kClosing    Failed, sender Abort
//   not kClosing         sender Failed           kClosing    Failed, scheduler Abort
//   kSending             sender Delivered        kClosing    nothing: success is told by decode
//   kQueued, kComputing  sender Delivered        kClosing    Failed INTERNAL (impossible), Aborts
//   not kClosing         Abort, deadline,        kClosing    Failed, sender Abort, scheduler Abort
//                        higher attempt,
//                        engine broken
//   not kClosing         session end             kClosing    sender Abort, scheduler Abort
//   not kClosing         sender Released         -           Failed INTERNAL (impossible), Release
//   kClosing             sender Released         -           scheduler Release
//
// So a key that was accepted has at most one terminal reply (Failed), and none when the handoff was
// delivered: the decode worker's Sealed says so.
//
// Credits: `credits` keys are held at most before their first tokens (kQueued, kComputing); keys
// that only wait for their sends are bounded by the KV pool that they pin.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "kvtransfer/handoff_ports.h"
#include "worker/attempt_fence.h"
#include "worker/deadline_queue.h"
#include "worker/mutations.h"
#include "worker/role_core.h"

namespace baton {

struct PrefillCoreOptions {
  int32_t num_layers = 0;
  int32_t block_size = 16;
  int32_t credits = 8;
  WorkerMutations mutations = {};
};

// See RoleCore for threading. The ports must outlive the core.
class PrefillCore final : public RoleCore {
 public:
  PrefillCore(const PrefillCoreOptions& options, Scheduler& scheduler, SendingPort& sender,
              RouterPort& routers);

  void OnCommand(SessionId session, WorkerCommand command, absl::Time now) override;
  void OnSessionEnd(SessionId session, absl::Time now) override;
  void OnHandoff(const HandoffEvent& event, absl::Time now) override;
  void OnLayer(int32_t layer, const StepPlan& plan, absl::Time step_start) override;
  void OnStep(StepResult result, absl::Time now) override;
  void OnTime(absl::Time now) override;
  absl::Time NextDeadline() const override { return deadlines_.Next(); }
  void OnDrain() override { draining_ = true; }
  void OnEngineBroken(const absl::Status& status, absl::Time now) override;
  RoleView view() const override;
  void CheckInvariants() const override;
  // "queued", …; "none" for a key that it does not hold. For tests and logs.
  std::string_view StateName(RequestKey key) const;

 private:
  enum class State { kQueued, kComputing, kSending, kClosing };
  struct Entry {
    State state = State::kQueued;
    SessionId session;
    SequenceId sequence;
    int32_t prompt_tokens = 0;
    int32_t first_sample = 0;
    bool with_logprobs = false;
    int32_t next_block = 0;  // logical; below it everything needed has been pushed in every layer
    int32_t cached_tokens = 0;
    TokenId prompt_start = 0;
    bool owes_prompt_logprobs = false;
    std::vector<TokenOutput> prompt_logprobs;  // until the first tokens: sent as one message
    std::vector<TokenId> first_tokens;         // [num_samples]
    int32_t tokens_drawn = 0;
    absl::Time accepted, started, deadline;
  };

  void RefuseRole(SessionId session, RequestKey key);
  void OnPrefill(SessionId session, PrefillCommand command, absl::Time now);
  void OnAbort(SessionId session, const AbortCommand& command);
  void OnSender(const SenderEvent& event, absl::Time now);
  void OnEvents(const std::vector<SequenceEvent>& events, absl::Time now);
  void OnPromptDone(RequestKey key, Entry& entry, absl::Time now);
  void PushRow(int32_t layer, const StepPlan::Row& row, RequestKey key, Entry& entry);
  // Leaves kQueued, kComputing or kSending for kClosing. `reply` is null after success and when
  // there is nobody to tell.
  void Close(RequestKey key, Entry& entry, const FailedReply* reply);
  // Close, ending what the engine and the sender still do for the key.
  void Cancel(RequestKey key, Entry& entry, const FailedReply* reply);
  void CancelOlderAttempts(RequestKey key);
  void Forget(RequestKey key);
  int32_t computing() const;

  const PrefillCoreOptions options_;
  Scheduler& scheduler_;
  SendingPort& sender_;
  RouterPort& routers_;
  std::map<RequestKey, Entry> entries_;               // ordered: the same inputs, the same calls
  absl::flat_hash_map<SequenceId, RequestKey> keys_;  // of every entry
  AttemptFence fence_;
  DeadlineQueue deadlines_;  // of every entry that is not closing
  bool draining_ = false;
  RoleView totals_;
};

}  // namespace baton
