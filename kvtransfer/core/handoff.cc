#include "kvtransfer/handoff.h"

namespace baton {

std::string_view HandoffFailureName(HandoffFailure failure) {
  switch (failure) {
    case HandoffFailure::kAborted:
      return "aborted";
    case HandoffFailure::kPeerLost:
      return "peer_lost";
    case HandoffFailure::kChecksum:
      return "checksum";
    case HandoffFailure::kLeaseExpired:
      return "lease_expired";
    case HandoffFailure::kTicketRefused:
      return "ticket_refused";
    case HandoffFailure::kInternal:
      return "internal";
  }
  return "unknown";
}

}  // namespace baton
