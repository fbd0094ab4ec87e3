// The prefill side of the handoff protocol: a pure state machine. Events and a time go in, actions
// come out; KvSender carries them out over a Transport, tests over a simulated network.
//
// One handoff:
//
//   state       event                                    next        actions
//   (none)      Open, no connection to that worker       Connecting  OpenConnection, hello
//   (none)      Open, its connection is ready            Streaming   begin
//   Connecting  hello from the receiver                  Streaming   begin
//   Connecting, Push                                     same        queued; SendBlocks while the
//   Streaming                                                        window has room
//   Connecting, Finish, all was pushed                   same        tail once the queue is empty,
//   Streaming                                                        then TailSent
//   TailSent    sealed                                   Draining    Delivered
//   any but     Abort, lease over, peer lost, abort from Draining    Failed; Abort to the peer;
//   Draining    the peer, a send failed, bad push                    what is queued is dropped
//   Draining    no posted send is left                   (none)      Released (H7)
//   Draining    drain_timeout                            Draining    CloseConnection
//
// A completed send moves nothing but the window: only the receiver's sealed message delivers (H2b).
//
// The window is shared by all handoffs in turn, one message each; no connection takes more than
// half of it while others could use it.
//
// REQUIRES: times never go back. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "kvtransfer/core/core_types.h"
#include "kvtransfer/core/mutations.h"
#include "kvtransfer/core/receiver_core.h"
#include "kvtransfer/core/wire.h"
#include "kvtransfer/handoff.h"

namespace baton {

struct OpenConnection {
  ConnectionId connection;
  PeerAddress peer;
};
// Send `blocks` of `message.layer` as one payload, then call SendDone. The payload's checksum is
// for the carrier to fill in: the core sees no bytes.
struct SendBlocks {
  ConnectionId connection;
  TransferId send;
  BlocksMessage message;
  std::vector<BlockId> blocks;
};
struct EmitSenderEvent {
  SenderEvent event;
  std::string peer_name;  // of the worker at the other end, empty before its hello
};
using SenderAction =
    std::variant<OpenConnection, SendBlocks, SendControl, CloseConnection, EmitSenderEvent>;

struct SenderCensus {
  int32_t active = 0;    // handoffs that have not ended
  int32_t draining = 0;  // ended, sends still posted
  int32_t posted_sends = 0;
};

class SenderCore {
 public:
  explicit SenderCore(HandoffCoreOptions options, HandoffMutations mutations = {});

  // From the owner. REQUIRES: spec.key is not open.
  void Open(const SendSpec& spec, absl::Time now);
  void Push(const RequestKey& key, int32_t layer, int32_t first_block,
            const std::vector<BlockId>& blocks, absl::Time now);
  void Finish(const RequestKey& key, const HandoffTail& tail, absl::Time now);
  void Abort(const RequestKey& key, absl::Time now);
  void Shutdown(absl::Time now);  // fails everything and closes every connection

  // From the transport.
  void MessageArrived(ConnectionId connection, std::string_view header, absl::Time now);
  void SendDone(TransferId send, bool ok, absl::Time now);
  void Disconnected(ConnectionId connection, std::string_view reason, absl::Time now);
  void ConnectionDestroyed(ConnectionId connection, absl::Time now);

  void Tick(absl::Time now);
  absl::Time NextDeadline() const { return next_deadline_; }

  std::vector<SenderAction> TakeActions();

  absl::Status CheckInvariants() const;
  SenderCensus census() const;

 private:
  enum class State { kConnecting, kStreaming, kTailSent, kDraining };
  struct Run {  // one message to be
    int32_t layer = 0;
    int32_t first_block = 0;
    std::vector<BlockId> blocks;
  };
  struct Handoff {
    SendSpec spec;
    ConnectionId connection;
    State state = State::kConnecting;
    std::vector<bool> pushed;  // [num_layers, num_blocks of the ticket]
    int64_t not_pushed = 0;
    std::deque<Run> queue;
    std::optional<HandoffTail> tail;
    bool in_turn = false;  // listed in turns_
    int32_t posted = 0;    // sends
    absl::Time drain_deadline = absl::InfiniteFuture();
  };
  enum class PeerState { kAwaitingHello, kReady, kClosing };
  struct Peer {
    PeerAddress address;
    PeerState state = PeerState::kAwaitingHello;
    std::string worker_name;
    PeerClock clock;
    int32_t handoffs = 0;
    int64_t bytes_in_flight = 0;
    int32_t transfers = 0;  // in flight
  };
  struct PostedSend {
    RequestKey key;
    ConnectionId connection;
    int64_t bytes = 0;
  };

  ConnectionId ConnectionTo(const PeerAddress& address, absl::Time now);
  Handoff* FindActive(const RequestKey& key);
  void Begin(Handoff& handoff);
  void TakeTurn(Handoff& handoff);
  void Pump(absl::Time now);  // posts sends while the window has room
  bool WindowAllows(const Peer& peer, int64_t bytes) const;
  void Post(Handoff& handoff, Peer& peer);
  void SendTailIfDue(Handoff& handoff);
  void OnHello(ConnectionId id, Peer& peer, const HelloMessage& hello, absl::Time now);
  void OnAnswer(ConnectionId id, const WireMessage& message, absl::Time now);
  void Fail(Handoff& handoff, HandoffFailure failure, std::string message, absl::Time now);
  void End(Handoff& handoff, absl::Time now);
  void Release(Handoff& handoff);
  void Close(ConnectionId id, Peer& peer, HandoffFailure failure, std::string_view reason,
             absl::Time now);
  void TickHandoffs(absl::Time now);
  void TickPeers(absl::Time now);
  void Send(ConnectionId id, const WireMessage& message);
  void Emit(const Handoff& handoff, decltype(SenderEvent::what) what);
  void Schedule(absl::Time at) { next_deadline_ = std::min(next_deadline_, at); }
  int64_t BytesOf(const Run& run) const {
    return static_cast<int64_t>(run.blocks.size()) * options_.layout.BlockBytes();
  }

  const HandoffCoreOptions options_;
  const HandoffMutations mutations_;
  std::map<RequestKey, Handoff> handoffs_;
  std::map<ConnectionId, Peer> peers_;
  std::map<TransferId, PostedSend> sends_;
  std::deque<RequestKey> turns_;  // handoffs with something queued on a ready connection
  uint64_t next_connection_ = 1;
  uint64_t next_transfer_ = 1;
  int64_t bytes_in_flight_ = 0;
  absl::Time next_deadline_ = absl::InfiniteFuture();
  std::vector<SenderAction> actions_;
};

}  // namespace baton
