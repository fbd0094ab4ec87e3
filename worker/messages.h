// What routers tell workers and what workers answer, decoded and checked: the vocabulary of the
// role cores. worker/convert.h maps it to and from the protobuf of the Session stream.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "common/ids.h"
#include "common/request.h"
#include "engine/scheduler/scheduler.h"
#include "kvtransfer/handoff.h"
#include "kvtransfer/ticket.h"
#include "kvtransfer/transport.h"

namespace baton {

// One Session stream of one router; never reused within a boot. A key belongs to the session that
// brought it: no other session can touch it.
using SessionId = StrongId<struct SessionIdTag, uint64_t>;

// ------------------------------------------------------------------ router to worker

// What a request is scheduled for, counted from the command's arrival. The default: nothing.
struct ObjectiveLeft {
  absl::Duration ttft_left = absl::InfiniteDuration();  // may be negative
  double tpot_ms = 0;                                   // 0: none

  SequenceObjective From(absl::Time arrived) const {
    return {.arrived = arrived, .first_token_due = arrived + ttft_left, .tpot_ms = tpot_ms};
  }
};

// Durations count from arrival; InfiniteDuration: none.
struct ReserveCommand {
  RequestKey key;
  GenerationSpec spec;
  absl::Duration deadline = absl::InfiniteDuration();
  absl::Duration lease = absl::InfiniteDuration();
  ObjectiveLeft objective;
};

struct PrefillCommand {
  RequestKey key;
  GenerationSpec spec;
  absl::Duration deadline = absl::InfiniteDuration();
  absl::Duration lease = absl::InfiniteDuration();
  Ticket ticket;
  int32_t first_missing_token = 0;  // tokens below it are not sent
  PeerAddress peer;
  ObjectiveLeft objective;
};

struct GenerateCommand {
  RequestKey key;
  GenerationSpec spec;
  absl::Duration deadline = absl::InfiniteDuration();
  ObjectiveLeft objective;
};

struct AbortCommand {
  RequestKey key;
  std::optional<int32_t> sample;  // absent: all of it
};

struct DrainCommand {};

// Of a session that has lost count of its KvBatches. The step loop answers it, no core sees it.
struct KvResyncCommand {};

using WorkerCommand = std::variant<ReserveCommand, PrefillCommand, GenerateCommand, AbortCommand,
                                   DrainCommand, KvResyncCommand>;

// Whether a role's core takes the command between the scheduler's Plan and Commit (role_core.h).
// One that must wait holds back what comes after it: a session's order is kept.
bool FitsIntoStep(const WorkerCommand& command);

// ------------------------------------------------------------------ worker to router

struct ReservedReply {
  Ticket ticket;
  int32_t first_missing_token = 0;
};

enum class RefuseReason { kNoRoom, kNeverFits, kDraining, kStaleAttempt, kInvalid };
std::string_view RefuseReasonName(RefuseReason reason);
// The answer to a Reserve, Prefill or Generate that was not accepted. Nothing is held for the key.
struct RefusedReply {
  RefuseReason reason = RefuseReason::kInvalid;
  std::string message;
};

struct TokensReply {
  std::vector<TokenOutput> tokens;
  bool with_logprobs = false;
};

struct PromptLogprobsReply {
  std::vector<TokenOutput> tokens;  // index: position in the prompt; position 0 has no logprob
};

struct PrefillDoneReply {
  int32_t cached_tokens = 0;
  absl::Duration queue;    // accepted to first chunk started
  absl::Duration prefill;  // first chunk started to first tokens drawn
};

struct SealedReply {
  HandoffStats stats;
  int32_t cached_tokens = 0;  // that the decode side's own prefix cache held
};

// A sealed handoff's first decode step has begun.
struct JoinedReply {};

// Stages measured inside this process; zero where a stage did not happen here.
struct StageTimes {
  absl::Duration queue;         // accepted to first chunk started (role both)
  absl::Duration prefill;       // first chunk started to first token (role both)
  absl::Duration decode_queue;  // sealed to first decode step started
  absl::Duration decode;        // first decode step started (role both: first token) to the end
};

struct FinishedReply {
  SampleFinish finish;
  int32_t cached_tokens = 0;
  StageTimes times;
};

enum class FailReason {
  kAborted,
  kPeerLost,
  kChecksum,
  kLeaseExpired,
  kDeadline,
  kKvExhausted,
  kInvalid,
  kInternal,
  kTicketRefused,
};
std::string_view FailReasonName(FailReason reason);
// Of a handoff that this worker had not given up: an abort then came from the peer, which no longer
// serves it.
FailReason FailReasonOf(HandoffFailure failure);
struct FailedReply {
  FailReason reason = FailReason::kInternal;
  std::string message;
};

// What changed in the prefix cache since the session's batch before; `sequence` counts them.
struct KvBatch {
  uint64_t sequence = 0;
  bool snapshot = false;  // `stored` is everything
  PrefixChanges changes;
};

struct WorkerReply {
  RequestKey key;
  std::variant<ReservedReply, RefusedReply, TokensReply, PromptLogprobsReply, PrefillDoneReply,
               SealedReply, JoinedReply, FinishedReply, FailedReply>
      what;
};

// Where a core's replies go. The shell's implementation queues; it never blocks and never fails: a
// session that is gone swallows what is sent to it.
class RouterPort {
 public:
  virtual ~RouterPort() = default;
  virtual void Send(SessionId session, WorkerReply reply) = 0;
};

}  // namespace baton
