// The state machine of a decode worker and of a worker of role both: one entry for each accepted
// key, from Reserve or Generate to the moment when nothing can write to its blocks any more.
//
// States of a key
//   kLanding     room is reserved and the ticket is out; KV arrives
//   kSealed      every byte is verified; waits for its first decode step
//   kQueued      (Generate) in the engine's waiting list
//   kPrefilling  (Generate) its first chunk has started
//   kDecoding    in the continuous batch, or preempted out of it for a while
//   kClosing     over for the router; waits until the transport lets go of the landing blocks
//
// Transitions (everything else leaves the state as it is). "open" is every state but kClosing.
// "end" is kClosing while the receiver owes a Released, else the entry is forgotten at once.
//   -            Reserve, accepted        kLanding     scheduler Reserve, receiver Open; Reserved
//   -            Generate, accepted       kQueued      scheduler Add
//   -            refused                  -            Refused
//   kLanding     receiver Sealed          kSealed      scheduler Seal; Sealed
//   kLanding     receiver Sealed, tail    end          Failed INTERNAL, scheduler Abort
//                or Seal unsound
//   kLanding     receiver Failed          end          Failed, scheduler Abort
//   kLanding     receiver Released        -            Failed INTERNAL (impossible), Abort
//   kSealed      its first row runs       kDecoding    Joined
//   kQueued      its first row runs       kPrefilling  -
//   kPrefilling  first token              kDecoding    Tokens
//   open         tokens                   same         Tokens, one message a step
//   open         BranchFinished, not last same         Finished
//   open         BranchFinished, last     end          Finished
//   kLanding     Abort{sample}, not last  same         Finished "abort"; AbortBranch after Seal
//   open         Abort{sample}, not last  same         Finished "abort", scheduler AbortBranch
//   open         Abort{sample}, last      end          Finished "abort", scheduler Abort
//   open         engine Failed            end          Failed KV_EXHAUSTED
//   open         Abort, deadline, higher  end          Failed, scheduler Abort, receiver Abort
//                attempt, engine broken                (receiver only from kLanding)
//   open         session end              end          the same, nothing sent
//   kSealed, …   receiver Released        same         scheduler LandingReleased
//   kClosing     receiver Released        -            scheduler LandingReleased
//
// So each accepted key has exactly one terminal reply, Failed or the Finished of its last sample,
// unless its session went away.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
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

struct DecodeCoreOptions {
  int32_t block_size = 16;
  int32_t vocab_size = 0;
  int32_t max_batch_sequences = 64;
  bool colocated = false;  // role both: every request needs room for its prompt, too
  int32_t credits = 8;     // generations held before their first token
  WorkerMutations mutations = {};
};

// See RoleCore for threading. The ports must outlive the core.
class DecodeCore final : public RoleCore {
 public:
  DecodeCore(const DecodeCoreOptions& options, Scheduler& scheduler, LandingPort& receiver,
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
  enum class State { kLanding, kSealed, kQueued, kPrefilling, kDecoding, kClosing };
  struct Entry {
    State state = State::kQueued;
    SessionId session;
    SequenceId sequence;
    bool awaits_release = false;  // the receiver owes a Released
    int32_t prompt_tokens = 0;
    int32_t first_sample = 0;
    bool with_logprobs = false;
    int32_t cached_tokens = 0;
    std::vector<bool> finished;          // [num_samples]
    std::vector<int32_t> output_tokens;  // [num_samples], counted from the prompt's end
    std::vector<int32_t> aborted_early;  // samples, while kLanding: AbortBranch after Seal
    TokenId prompt_start = 0;
    bool owes_prompt_logprobs = false;
    std::vector<TokenOutput> prompt_logprobs;  // until the first tokens: sent as one message
    absl::Time accepted, deadline;
    // Unset: has not happened.
    std::optional<absl::Time> started, first_token, sealed, decode_started;
  };
  using Entries = std::map<RequestKey, Entry>;

  void OnReserve(SessionId session, ReserveCommand command, absl::Time now);
  void OnGenerate(SessionId session, GenerateCommand command, absl::Time now);
  // Whether a new key must be refused; sends the Refused. Cancels older attempts of an accepted
  // one.
  bool RefuseEarly(SessionId session, RequestKey key);
  Entry MakeEntry(State state, SessionId session, const GenerationSpec& spec) const;
  void Accept(RequestKey key, Entry entry);
  void OnAbort(SessionId session, const AbortCommand& command, absl::Time now);
  void OnSealed(Entries::iterator at, const ReceiverEvent::Sealed& sealed, absl::Time now);
  void OnReleased(Entries::iterator at);
  void OnTokens(RequestKey key, Entry& entry, std::vector<TokenOutput> tokens, absl::Time now);
  // One sample has ended; sends Finished and, after the last one, ends the key.
  void FinishSample(Entries::iterator at, const SampleFinish& finish, absl::Time now);
  // Ends an open key: `reply` (null: nobody to tell), then kClosing or forgotten. Returns the
  // entry after it.
  Entries::iterator End(Entries::iterator at, const FailedReply* reply);
  // End, also ending what the engine and the receiver still do for the key.
  Entries::iterator Cancel(Entries::iterator at, const FailedReply* reply);
  StageTimes Times(const Entry& entry, absl::Time now) const;
  int32_t before_first_token() const;
  int32_t live_samples() const;

  const DecodeCoreOptions options_;
  Scheduler& scheduler_;
  LandingPort& receiver_;
  RouterPort& routers_;
  Entries entries_;                                   // ordered: the same inputs, the same calls
  absl::flat_hash_map<SequenceId, RequestKey> keys_;  // of every entry
  AttemptFence fence_;
  DeadlineQueue deadlines_;  // of every open entry
  bool draining_ = false;
  RoleView totals_;
};

}  // namespace baton
