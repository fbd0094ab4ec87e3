#include "router/core/types.h"

namespace baton::router {

std::string_view RoleName(Role role) {
  switch (role) {
    case Role::kPrefill:
      return "prefill";
    case Role::kDecode:
      return "decode";
    case Role::kBoth:
      return "both";
  }
  return "unknown";
}

std::string_view PathName(Path path) {
  switch (path) {
    case Path::kHandoff:
      return "handoff";
    case Path::kInPlace:
      return "in_place";
    case Path::kColocated:
      return "colocated";
  }
  return "unknown";
}

std::string_view FailureReasonName(FailureReason reason) {
  switch (reason) {
    case FailureReason::kAborted:
      return "aborted";
    case FailureReason::kPeerLost:
      return "KV peer lost";
    case FailureReason::kChecksum:
      return "KV checksum mismatch";
    case FailureReason::kLeaseExpired:
      return "handoff lease expired";
    case FailureReason::kDeadline:
      return "deadline passed";
    case FailureReason::kKvExhausted:
      return "KV cache exhausted";
    case FailureReason::kInvalid:
      return "request refused as invalid";
    case FailureReason::kInternal:
      return "internal error";
    case FailureReason::kTicketRefused:
      return "handoff ticket refused";
  }
  return "unknown";
}

}  // namespace baton::router
