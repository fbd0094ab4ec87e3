// What the router knows of a worker, in terms of its own: no protobuf type reaches the core.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/ids.h"
#include "common/step_model.h"

namespace baton::router {

// The place of a worker in the configured list.
using WorkerIndex = StrongId<struct WorkerIndexTag, int32_t>;
inline constexpr WorkerIndex kNoWorker{-1};
// One connection to one worker. Never reused: an event of an earlier connection is recognised.
using SessionId = StrongId<struct SessionIdTag, uint64_t>;

enum class Role { kPrefill, kDecode, kBoth };
std::string_view RoleName(Role role);  // "prefill", "decode", "both"

// How a request runs: prefill handed to a decode worker, all of it on a decode worker, or all of it
// on a worker of role both.
enum class Path { kHandoff, kInPlace, kColocated };
inline constexpr std::array kAllPaths = {Path::kHandoff, Path::kInPlace, Path::kColocated};
std::string_view PathName(Path path);  // "handoff", "in_place", "colocated"

// Where a decode worker receives KV. The router passes it on and reads none of it.
struct KvEndpoint {
  std::string host;
  int32_t port = 0;
  BootId boot;
  uint64_t layout_fingerprint = 0;
  std::string machine_id;
};

// What a worker says of itself when a session opens; fixed for the session.
struct WorkerInfo {
  std::string id;
  BootId boot;
  Role role = Role::kBoth;
  uint32_t protocol_version = 0;
  uint64_t model_fingerprint = 0;
  std::string model_name;
  int32_t vocab_size = 0;
  int32_t max_model_len = 0;
  int32_t block_size = 0;
  int32_t total_blocks = 0;
  int32_t max_batch_sequences = 0;
  int32_t max_batch_tokens = 0;
  int32_t prefill_credits = 0;  // requests that it holds at once before their first token
  KvEndpoint kv;
  StepModel step_model;        // not known(): it has made none
  bool paced_prefill = false;  // prompts take no more of a step than its rows' TPOT leaves
};

// One heartbeat of a worker.
struct WorkerReport {
  uint64_t steps_completed = 0;
  double current_step_age_ms = 0;
  int32_t running = 0;
  int32_t waiting = 0;
  int32_t free_blocks = 0;
  int32_t cached_blocks = 0;  // given up when room is needed
  int32_t busy_blocks = 0;    // every other state
  int32_t credits = 0;
  double step_ms_ewma = 0;
  StepTime step_time;
  bool draining = false;
  // Measured over predicted, see StepModelTracker.
  SizeFactors prefill_factors;
  SizeFactors decode_factors;
  // The work at hand.
  int32_t decode_rows = 0;
  int64_t decode_context = 0;
  int64_t prefill_tokens_left = 0;
  double prefill_pairs_left = 0;

  int32_t available_blocks() const { return free_blocks + cached_blocks; }
};

enum class RefusalReason { kNoRoom, kNeverFits, kDraining, kStaleAttempt, kInvalid };

enum class FailureReason {
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
std::string_view FailureReasonName(FailureReason reason);

}  // namespace baton::router
