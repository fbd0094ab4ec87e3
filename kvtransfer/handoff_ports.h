// What a worker's role asks of its end of the handoffs, apart from how it is carried out:
// KvReceiver and KvSender do it with a thread and a transport, tests and the simulator without.
//
// Every method may be called from any thread, returns at once and only posts.
#pragma once

#include <vector>

#include "common/ids.h"
#include "kvtransfer/handoff.h"
#include "kvtransfer/ticket.h"

namespace baton {

// The decode side.
class LandingPort {
 public:
  virtual ~LandingPort() = default;
  // Reserves the right to land. The ticket is valid at once, from any thread.
  // REQUIRES: the key is not open: an earlier Open of it has been Released.
  virtual Ticket Open(LandingSpec spec) = 0;
  // Idempotent. Failed(kAborted) and Released follow unless the handoff has already ended.
  virtual void Abort(RequestKey key) = 0;
};

// The prefill side.
class SendingPort {
 public:
  virtual ~SendingPort() = default;
  // Connects (or reuses the connection) and announces the handoff.
  // REQUIRES: the key is not open: an earlier Open of it has been Released.
  virtual void Open(SendSpec spec) = 0;
  // The KV of `blocks` in `layer` is final. blocks[0] is logical block `first_block` of the
  // sequence. Each (layer, logical block) of the ticket is pushed exactly once, in any order; they
  // stay readable until Released.
  virtual void Push(RequestKey key, int32_t layer, int32_t first_block,
                    std::vector<BlockId> blocks) = 0;
  // Everything was pushed; `tail` completes the handoff.
  virtual void Finish(RequestKey key, HandoffTail tail) = 0;
  // Idempotent. Failed(kAborted) and Released follow unless the handoff has already ended.
  virtual void Abort(RequestKey key) = 0;
};

}  // namespace baton
