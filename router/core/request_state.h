// What the router core keeps of one request between events.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/request.h"
#include "router/completion_service.h"
#include "router/core/events.h"
#include "router/core/phase.h"
#include "router/core/prefix_index.h"
#include "router/core/request_queue.h"
#include "router/core/slo.h"
#include "router/core/token_sequencer.h"
#include "router/core/types.h"

namespace baton::router {

// When one sample's first and latest tokens went out.
struct SampleClock {
  absl::Time first_token = absl::InfinitePast();
  absl::Time last_token = absl::InfinitePast();
  int32_t tokens = 0;
};

inline void AddOnce(std::vector<WorkerIndex>* list, WorkerIndex worker) {
  if (std::find(list->begin(), list->end(), worker) == list->end()) list->push_back(worker);
}

// The part of a TTFT objective up to which a first token may be held.
inline constexpr double kHoldShare = 0.9;

struct RequestState {
  // As submitted.
  RequestId id;
  std::shared_ptr<const GenerationSpec> spec;  // shared with the relay and with actions under way
  absl::Time arrival;
  absl::Time deadline;
  SloTarget slo;
  int32_t slo_class = 0;
  bool slo_stated = true;
  PrefixHashes prefix;
  RequestQueue::Entry queue_entry;

  // The current attempt. `attempt` fences: it grows with each dispatch, also after a refusal.
  Phase phase = Phase::kQueued;
  absl::Time phase_since;
  uint32_t attempt = 0;
  std::shared_ptr<const GenerationSpec> attempt_spec;  // with emitted tokens when it resumes
  WorkerIndex prefill = kNoWorker;
  WorkerIndex decode = kNoWorker;
  bool holds_credit = false;  // of `prefill`
  // It accepted the key and has not said that it ended it. What was sealed may stay open there: the
  // decode worker may have died before it could say so to the prefill worker.
  bool prefill_open = false;
  bool decode_open = false;       // the same of `decode`
  bool prefill_reported = false;  // PrefillDone came: all its tokens came before
  double prefill_cost_ms = 0;     // with which it holds the credit
  int32_t decode_slot = -1;       // of its row on `decode`; -1: none
  bool probes_pair = false;       // the pair has come to no verdict by it yet

  // What went wrong so far.
  int32_t lost_attempts = 0;
  int32_t worker_deaths = 0;
  std::optional<RequestErrorCode> lost_code;  // of the last lost attempt
  std::vector<WorkerIndex> never;
  std::vector<WorkerIndex> avoid;

  // What went out.
  TokenSequencer sequencer;
  std::vector<int32_t> stopped_samples;  // by a stop string
  std::vector<SampleClock> clocks;       // [num_samples]
  bool prompt_logprobs_out = false;
  // First tokens that wait for their decode worker's step, see RouterCore::MayHold. For the
  // sequencer they are out.
  std::vector<TokenOutput> held;
  bool joined = false;  // the attempt's first decode step has begun

  // Accounts.
  StageTimes stages;
  int32_t cached_tokens = 0;
  int64_t kv_bytes = 0;
  Prediction prediction;
  double forecast_wait_ms = 0;  // in the queue; 0: unknown or none
  std::string transport;
  std::string prefill_name, decode_name;

  absl::Time timer;  // what the timer set holds for it

  bool in_place() const { return prefill == decode && prefill != kNoWorker; }
  // The first output index that the current attempt produces.
  int32_t first_index() const {
    return static_cast<int32_t>(attempt_spec->tokens.size()) - attempt_spec->prompt_length;
  }
  double TtftLeftMs(absl::Time now) const {
    return slo.ttft_ms - absl::ToDoubleMilliseconds(now - arrival);
  }
  // Its first token may wait that long.
  absl::Time HoldUntil() const { return arrival + absl::Milliseconds(kHoldShare * slo.ttft_ms); }
  Objective ObjectiveAt(absl::Time now) const { return {TtftLeftMs(now), slo.tpot_ms}; }
  // Milliseconds from arrival to the first token of any sample; empty before it.
  std::optional<double> TtftMs() const {
    absl::Time first = absl::InfiniteFuture();
    for (const SampleClock& clock : clocks) {
      if (clock.tokens > 0) first = std::min(first, clock.first_token);
    }
    if (first == absl::InfiniteFuture()) return std::nullopt;
    return absl::ToDoubleMilliseconds(first - arrival);
  }
  // Of the slowest sample; empty if none has a second token.
  std::optional<double> TpotMs() const {
    std::optional<double> slowest;
    for (const SampleClock& clock : clocks) {
      if (clock.tokens < 2) continue;
      const double tpot_ms =
          absl::ToDoubleMilliseconds(clock.last_token - clock.first_token) / (clock.tokens - 1);
      slowest = std::max(slowest.value_or(0.0), tpot_ms);
    }
    return slowest;
  }
};

}  // namespace baton::router
