// The one handoff that tests of the cores are about: its options, times, ticket and peer.
#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "common/ids.h"
#include "kvtransfer/core/core_types.h"
#include "kvtransfer/ticket.h"
#include "kvtransfer/transport.h"

namespace baton::testing {

inline constexpr absl::Time kStart = absl::UnixEpoch();
inline constexpr absl::Duration kLease = absl::Seconds(10);
// Out of the way unless a test wants it.
inline constexpr absl::Duration kPeerTimeout = absl::Seconds(100);
inline constexpr absl::Duration kDrain = absl::Seconds(5);
inline constexpr uint64_t kFingerprint = 5;
inline constexpr RequestKey kKey{RequestId(1), 1};
inline const PeerAddress kPeer{"decode", 1, 1, "m"};

inline HandoffCoreOptions Options() {
  HandoffCoreOptions options;
  options.layout = {.num_layers = 1, .num_kv_heads = 1, .head_dim = 2, .block_size = 1};
  options.num_blocks = 8;
  options.layout_fingerprint = kFingerprint;
  options.boot = BootId(1);
  options.peer_timeout = kPeerTimeout;
  options.drain_timeout = kDrain;
  options.max_message_bytes = options.layout.BlockBytes();  // one block a message
  return options;
}

inline Ticket TheTicket() { return {kKey, BootId(1), 1, kFingerprint, 0, 2, {99}}; }

inline Ticket StaleTicket() {
  Ticket ticket = TheTicket();
  ticket.generation = 0;
  return ticket;
}

}  // namespace baton::testing
