// Between the protobuf of the Session stream and the worker's own types. Pure. Every count and
// every number from the wire is checked here: what comes out is safe to hand to the engine.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "common/step_model.h"
#include "proto/baton/v1/worker.pb.h"
#include "worker/messages.h"
#include "worker/status_snapshot.h"

namespace baton {

// What a request may ask for. The first two come from the model.
struct CommandLimits {
  int32_t max_model_len = 0;
  int32_t vocab_size = 0;
  int32_t max_samples = kMaxHandoffSamples;
  int32_t max_stop_tokens = 256;
  int32_t max_logit_bias = 4096;
  int32_t max_logprobs = 128;
  absl::Duration max_duration = absl::Hours(24);     // of deadlines and leases
  absl::Duration default_lease = absl::Seconds(30);  // for lease_ms 0: none is for ever (H5)
};

RequestKey KeyFromProto(const v1::RequestKey& key);

// INVALID_ARGUMENT names the field, its value and what is allowed.
absl::StatusOr<GenerationSpec> SpecFromProto(const v1::GenerationSpec& spec,
                                             const CommandLimits& limits);

// The key of a Reserve, Prefill or Generate, which is what a Refused answers; else none.
std::optional<RequestKey> RefusableKey(const v1::RouterMessage& message);

// Everything but Hello and RouterHeartbeat, which the session itself handles.
absl::StatusOr<WorkerCommand> CommandFromProto(const v1::RouterMessage& message,
                                               const CommandLimits& limits);

void StepModelToProto(const StepModel& model, v1::StepModel* out);

// Replaces what `message` holds.
void ReplyToProto(const WorkerReply& reply, v1::WorkerMessage* message);
void KvBatchToProto(const KvBatch& batch, v1::KvEvents* out);
void StatusToProto(const StatusSnapshot& snapshot, uint64_t sequence, absl::Time now,
                   v1::WorkerStatus* status);

}  // namespace baton
