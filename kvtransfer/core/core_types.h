// Vocabulary shared by the two handoff cores.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "absl/time/time.h"
#include "common/ids.h"
#include "common/kv_layout.h"

namespace baton {

// A connection as the cores know it: given by whoever makes the connection, never reused.
using ConnectionId = StrongId<struct ConnectionIdTag, uint64_t>;
// A payload announced to the receiver and not yet placed: given by the shell, never reused.
using PayloadId = StrongId<struct PayloadIdTag, uint64_t>;
// One posted send or receive: given by the core, never reused.
using TransferId = StrongId<struct TransferIdTag, uint64_t>;

struct HandoffCoreOptions {
  KvLayout layout;
  int32_t num_blocks = 0;  // of the pool
  uint64_t layout_fingerprint = 0;
  BootId boot;
  std::string worker_name;
  int64_t max_bytes_in_flight = int64_t{256} << 20;
  // Of transfers at once, in number.
  int32_t max_transfers = std::numeric_limits<int32_t>::max();
  // The longest run of blocks in one message, unless one block is longer.
  int64_t max_message_bytes = int64_t{1} << 20;
  absl::Duration peer_timeout = absl::Seconds(3);
  // How long a failed handoff may wait for its posted transfers before the connection that they
  // belong to is destroyed, which ends them.
  absl::Duration drain_timeout = absl::Seconds(5);

  int64_t MessageBytes() const { return std::max(max_message_bytes, layout.BlockBytes()); }
};

// When a connection was last heard, and when to ask.
struct PeerClock {
  absl::Time last_heard;
  absl::Time last_asked;

  void Heard(absl::Time now) { last_heard = now; }
  // A peer that was left alone is not late: the clock starts when it is first needed.
  void Start(absl::Time now) { last_heard = last_asked = now; }
  bool Lost(absl::Time now, absl::Duration timeout) const { return now - last_heard >= timeout; }
  bool AskNow(absl::Time now, absl::Duration timeout) const { return NextAsk(timeout) <= now; }
  absl::Time NextAsk(absl::Duration timeout) const {
    return (last_heard > last_asked ? last_heard : last_asked) + timeout / 3;
  }
};

}  // namespace baton
