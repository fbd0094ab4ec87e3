// Deliberate bugs for the fault exploration, which must catch each of them. Only tests and the
// simulator set these; the shells always pass the defaults.
#pragma once

namespace baton {

struct HandoffMutations {
  bool release_on_timeout = false;       // receiver: an expired lease frees at once (H2)
  bool seal_before_landed = false;       // receiver: the tail alone seals (H4)
  bool skip_checksum = false;            // receiver: corrupted bytes count as landed (H4)
  bool accept_stale_generation = false;  // receiver: the key alone is a ticket (H3)
  bool accept_duplicate_blocks = false;  // receiver: the same blocks land twice
  bool double_terminal = false;          // receiver: Failed a second time
  bool lose_cancel = false;              // receiver and sender: Abort is dropped (H8)
  bool ignore_disconnect = false;        // receiver: a lost peer ends nothing (H5)
  bool first_receive_frees = false;      // receiver: one of several ended receives frees (H2)
  bool failed_receive_lands = false;     // receiver: a failed receive counts as landed (H4)
  bool match_request_only = false;       // receiver: any attempt, any life is welcome (H3)
  bool early_unpin = false;              // sender: abort releases while sends are posted (H7)
  bool delivered_on_send_done = false;   // sender: completed sends count as arrival (H2b)
};

}  // namespace baton
