// Between the wire (proto/baton/v1/worker.proto) and the router core's events. All that comes from
// a worker is checked here, in one place.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "router/core/events.h"

namespace baton::v1 {
class RouterMessage;
class WorkerMessage;
}  // namespace baton::v1

namespace baton::router {

// What a worker may put into one Batch.
inline constexpr int32_t kMaxBatchMessages = 1024;

struct HelloFields {
  std::string router_id;
  uint64_t router_epoch = 0;
  uint32_t protocol_version = 0;
  absl::Duration lease;
  uint64_t model_fingerprint = 0;  // 0: not known yet
};

void ToProto(const HelloFields& hello, v1::RouterMessage* message);
void ToProto(const SendReserve& action, v1::RouterMessage* message);
void ToProto(const SendPrefill& action, v1::RouterMessage* message);
void ToProto(const SendGenerate& action, v1::RouterMessage* message);
void ToProto(const SendAbort& action, v1::RouterMessage* message);
void ToProto(const SendKvResync& action, v1::RouterMessage* message);

// INVALID_ARGUMENT: a field is missing or out of range; the session cannot be trusted any more.
// Takes no batches.
absl::StatusOr<Event> FromProto(const WorkerOrigin& from, v1::WorkerMessage& message);
// The same of a message that may be a batch: its events in order, at least one.
absl::StatusOr<std::vector<Event>> EventsFromProto(const WorkerOrigin& from,
                                                   v1::WorkerMessage& message);

}  // namespace baton::router
