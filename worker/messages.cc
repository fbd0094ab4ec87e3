#include "worker/messages.h"

namespace baton {

std::string_view RefuseReasonName(RefuseReason reason) {
  switch (reason) {
    case RefuseReason::kNoRoom:
      return "no_room";
    case RefuseReason::kNeverFits:
      return "never_fits";
    case RefuseReason::kDraining:
      return "draining";
    case RefuseReason::kStaleAttempt:
      return "stale_attempt";
    case RefuseReason::kInvalid:
      return "invalid";
  }
  return "unknown";
}

std::string_view FailReasonName(FailReason reason) {
  switch (reason) {
    case FailReason::kAborted:
      return "aborted";
    case FailReason::kPeerLost:
      return "peer_lost";
    case FailReason::kChecksum:
      return "checksum";
    case FailReason::kLeaseExpired:
      return "lease_expired";
    case FailReason::kDeadline:
      return "deadline";
    case FailReason::kKvExhausted:
      return "kv_exhausted";
    case FailReason::kInvalid:
      return "invalid";
    case FailReason::kInternal:
      return "internal";
    case FailReason::kTicketRefused:
      return "ticket_refused";
  }
  return "unknown";
}

FailReason FailReasonOf(HandoffFailure failure) {
  switch (failure) {
    case HandoffFailure::kAborted:
    case HandoffFailure::kPeerLost:
      return FailReason::kPeerLost;
    case HandoffFailure::kChecksum:
      return FailReason::kChecksum;
    case HandoffFailure::kLeaseExpired:
      return FailReason::kLeaseExpired;
    case HandoffFailure::kTicketRefused:
      return FailReason::kTicketRefused;
    case HandoffFailure::kInternal:
      return FailReason::kInternal;
  }
  return FailReason::kInternal;
}

bool FitsIntoStep(const WorkerCommand& command) {
  return !std::holds_alternative<PrefillCommand>(command) &&
         !std::holds_alternative<GenerateCommand>(command);
}

}  // namespace baton
