// What the two sides of a KV handoff exchange with their owners: plain values, no behaviour.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "common/ids.h"
#include "kvtransfer/ticket.h"
#include "kvtransfer/transport.h"

namespace baton {

// The most first tokens (samples of one request) that one handoff carries.
inline constexpr int32_t kMaxHandoffSamples = 192;

// What prefill sends behind the KV: together with the spec it is the whole sampler state.
struct HandoffTail {
  std::vector<TokenId> first_tokens;  // [num_samples]

  friend bool operator==(const HandoffTail&, const HandoffTail&) = default;
};

struct LandingSpec {
  RequestKey key;
  int32_t first_block = 0;      // logical index of blocks[0]
  std::vector<BlockId> blocks;  // logical order; may be empty: then only the tail is awaited
  int32_t num_samples = 1;      // first tokens to expect, at most kMaxHandoffSamples
  absl::Time lease_deadline;    // not sealed by then: fails with LEASE_EXPIRED
};

struct HandoffStats {
  int64_t bytes = 0;
  absl::Duration transfer;  // first byte to seal
  absl::Duration exposed;   // tail message seen to seal
  std::string transport;    // "shm", "tcp", "rdma", "loopback"
};

enum class HandoffFailure {
  kAborted,
  kPeerLost,
  kChecksum,
  kLeaseExpired,
  kTicketRefused,
  kInternal
};
inline constexpr int kNumHandoffFailures = 6;
std::string_view HandoffFailureName(HandoffFailure failure);

// Exactly one of Sealed or Failed for each Open, then exactly one Released. Released means that the
// transport can no longer write to the landing blocks (H2); after a Sealed it follows at once.
struct ReceiverEvent {
  struct Sealed {
    HandoffTail tail;
    HandoffStats stats;
  };
  struct Failed {
    HandoffFailure failure;
    std::string message;
  };
  struct Released {};
  RequestKey key;
  std::variant<Sealed, Failed, Released> what;
};

struct SendSpec {
  RequestKey key;
  Ticket ticket;
  PeerAddress peer;
  absl::Time lease_deadline;
};

// Exactly one of Delivered or Failed for each Open, then exactly one Released. Released means that
// no send reads the source blocks any more (H7): only then may they be reused.
struct SenderEvent {
  struct Delivered {};  // the receiver has sealed
  struct Failed {
    HandoffFailure failure;
    std::string message;
  };
  struct Released {};
  RequestKey key;
  std::variant<Delivered, Failed, Released> what;
};

}  // namespace baton
