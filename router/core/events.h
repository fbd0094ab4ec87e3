// What goes into the router core and what comes out of it. Plain data, no behaviour: a schedule of
// events is a test case, and the simulator feeds the same ones.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "common/ids.h"
#include "common/request.h"
#include "router/completion_service.h"
#include "router/core/ejection.h"
#include "router/core/pair_ejection.h"
#include "router/core/slo.h"
#include "router/core/types.h"
#include "router/core/verdict.h"

namespace baton::router {

// ------------------------------------------------------------------ in: from clients

struct SubmitEvent {
  RequestId request;
  // Shared with the relay, which needs its limits; neither changes it.
  std::shared_ptr<const GenerationSpec> spec;
  absl::Time arrival;
  absl::Duration timeout;  // from arrival
  SloTarget slo;
  int32_t slo_class = 0;   // place in CoreOptions::slo_classes
  bool slo_stated = true;  // somebody asked for it: the request may be refused for it
  int32_t priority = 0;    // lower goes first among its tenant's, as in vLLM
  uint64_t tenant = 0;     // TenantOf()
};
struct CancelEvent {
  RequestId request;
};
// The relay saw a stop string: this sample needs no more tokens.
struct SampleStoppedEvent {
  RequestId request;
  int32_t sample = 0;
};
// The relay found the token stream broken: our bug or a worker's.
struct StreamBrokenEvent {
  RequestId request;
  std::string message;
};
struct DrainEvent {};

// ------------------------------------------------------------------ in: from workers
// Each carries the session it came over; one of an ended session changes nothing.

struct WorkerOrigin {
  WorkerIndex worker = kNoWorker;
  SessionId session;
};
struct WorkerUpEvent {
  WorkerOrigin from;
  WorkerInfo info;
};
struct WorkerReportEvent {
  WorkerOrigin from;
  WorkerReport report;
};
struct WorkerDownEvent {
  WorkerOrigin from;
  std::string reason;
};
struct ReservedEvent {
  WorkerOrigin from;
  RequestKey key;
  std::string ticket;  // opaque
  int32_t first_missing_token = 0;
};
struct RefusedEvent {
  WorkerOrigin from;
  RequestKey key;
  RefusalReason reason = RefusalReason::kNoRoom;
  std::string message;
};
struct PromptLogprobsEvent {
  WorkerOrigin from;
  RequestKey key;
  std::vector<TokenOutput> tokens;
};
struct TokensEvent {
  WorkerOrigin from;
  RequestKey key;
  std::vector<TokenOutput> tokens;
};
struct PrefillDoneEvent {
  WorkerOrigin from;
  RequestKey key;
  int32_t cached_tokens = 0;
  double queue_ms = 0;
  double prefill_ms = 0;
};
struct SealedEvent {
  WorkerOrigin from;
  RequestKey key;
  int64_t kv_bytes = 0;
  double transfer_ms = 0;
  double transfer_exposed_ms = 0;
  std::string transport;
  int32_t cached_tokens = 0;
};
// A sealed handoff's first decode step has begun.
struct JoinedEvent {
  WorkerOrigin from;
  RequestKey key;
};
struct FinishedEvent {
  WorkerOrigin from;
  RequestKey key;
  SampleFinish finish;
  int32_t cached_tokens = 0;
  double decode_queue_ms = 0;
  double decode_ms = 0;
  double queue_ms = 0;
  double prefill_ms = 0;
};
// What changed in a worker's prefix cache; hashes as PrefixBlockHash makes them.
struct KvCacheEvent {
  WorkerOrigin from;
  uint64_t sequence = 0;
  bool snapshot = false;  // `stored` is everything
  std::vector<uint64_t> removed;
  std::vector<uint64_t> stored;
};
struct FailedEvent {
  WorkerOrigin from;
  RequestKey key;
  FailureReason reason = FailureReason::kInternal;
  std::string message;
};

using Event =
    std::variant<SubmitEvent, CancelEvent, SampleStoppedEvent, StreamBrokenEvent, DrainEvent,
                 WorkerUpEvent, WorkerReportEvent, WorkerDownEvent, ReservedEvent, RefusedEvent,
                 PromptLogprobsEvent, TokensEvent, PrefillDoneEvent, SealedEvent, JoinedEvent,
                 FinishedEvent, FailedEvent, KvCacheEvent>;

// ------------------------------------------------------------------ out: to workers

// What a request is scheduled for, as the moment of sending sees it.
struct Objective {
  double ttft_left_ms = 0;  // may be negative
  double tpot_ms = 0;
};
struct SendReserve {
  WorkerIndex worker = kNoWorker;
  RequestKey key;
  std::shared_ptr<const GenerationSpec> spec;
  absl::Duration time_left;
  absl::Duration lease;
  Objective objective;
};
struct SendPrefill {
  WorkerIndex worker = kNoWorker;
  RequestKey key;
  std::shared_ptr<const GenerationSpec> spec;
  absl::Duration time_left;
  absl::Duration lease;
  std::string ticket;
  int32_t first_missing_token = 0;
  KvEndpoint destination;
  Objective objective;
};
struct SendGenerate {
  WorkerIndex worker = kNoWorker;
  RequestKey key;
  std::shared_ptr<const GenerationSpec> spec;
  absl::Duration time_left;
  Objective objective;
  Path path = Path::kColocated;
};
struct SendAbort {
  WorkerIndex worker = kNoWorker;
  RequestKey key;
  int32_t sample = -1;  // -1: the whole request
};
// A batch of its KvCacheEvents was lost.
struct SendKvResync {
  WorkerIndex worker = kNoWorker;
};
// The worker counts as dead; the link drops the connection and makes a new one.
struct CloseSession {
  WorkerIndex worker = kNoWorker;
  SessionId session;
  std::string reason;
};

// For the log: a worker was taken out of service for being slow, is tried again, or is back.
struct NoteStanding {
  WorkerIndex worker = kNoWorker;
  Standing standing = Standing::kIn;
};

// The same of a pair, for handoffs that fail.
struct NotePairStanding {
  WorkerPair pair;
  Standing standing = Standing::kIn;
};

// ------------------------------------------------------------------ out: to clients

struct EmitPromptLogprobs {
  RequestId request;
  std::vector<TokenOutput> tokens;
};
struct EmitToken {
  RequestId request;
  TokenOutput token;
};
struct EmitSampleFinish {
  RequestId request;
  SampleFinish finish;
};
// What the router thought when it dispatched a request; empty where it could not know.
struct Prediction {
  std::optional<double> ttft_ms;
  std::optional<double> tpot_ms;
};
// Exactly one of these two ends a request.
struct CompleteRequest {
  RequestId request;
  RequestSummary summary;
  SloOutcome outcome;
  Prediction prediction;
};
struct FailRequest {
  RequestId request;
  RequestError error;
  SloOutcome outcome;
  Verdict verdict = Verdict::kAdmit;  // else admission ended it
};

using Action = std::variant<SendReserve, SendPrefill, SendGenerate, SendAbort, SendKvResync,
                            CloseSession, NoteStanding, NotePairStanding, EmitPromptLogprobs,
                            EmitToken, EmitSampleFinish, CompleteRequest, FailRequest>;

}  // namespace baton::router
