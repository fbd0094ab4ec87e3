// The decode side of the handoff protocol: a pure state machine. Events and a time go in, actions
// come out; KvReceiver carries them out over a Transport, tests over a simulated network.
//
// One handoff:
//
//   state        event                                   next         actions
//   (none)       Open                                    Open         -
//   Open         message with its ticket                 Landing      binds it to the connection
//   Landing      blocks, not seen before, room in window Landing      AcceptPayload
//   Landing      blocks, not seen before, window full    Landing      waits in line
//   Landing      blocks seen before                      Landing      RefusePayload
//   Landing      receive done, checksum holds            Landing      (Sealing when all is there)
//   Landing      tail                                    Landing      (Sealing when all is there)
//   Landing      all bytes and the tail are there        (none)       Sealed to the peer; Sealed,
//                                                                     Released
//   Open,Landing Abort, lease over, peer lost, checksum  Quarantined  Failed; Abort to the peer;
//                wrong, receive failed, bad message                   waiting payloads refused
//   Quarantined  no posted receive is left               (none)       Released (H2)
//   Quarantined  drain_timeout                           Quarantined  CloseConnection
//   any          message whose ticket is not equal       same         RefusePayload, Abort to
//   sender
//
// One connection: AwaitingHello -> Ready -> Closing -> (none); AwaitingHello -> Refused -> Closing
// when versions or layouts differ. Losing a connection fails every handoff bound to it; destroying
// it ends every receive posted on it, and only then are quarantined blocks released.
//
// REQUIRES: times never go back. Not thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "kvtransfer/core/core_types.h"
#include "kvtransfer/core/mutations.h"
#include "kvtransfer/core/wire.h"
#include "kvtransfer/handoff.h"

namespace baton {

// Receive the payload into `blocks` of `layer`, in order, then call ReceiveDone.
struct AcceptPayload {
  ConnectionId connection;
  PayloadId payload;
  TransferId receive;
  int32_t layer = 0;
  std::vector<BlockId> blocks;
};
struct RefusePayload {
  PayloadId payload;
};
struct SendControl {
  ConnectionId connection;
  std::string header;
};
// Destroy it, with every receive posted on it, then call ConnectionDestroyed.
struct CloseConnection {
  ConnectionId connection;
  std::string reason;
};
struct EmitReceiverEvent {
  ReceiverEvent event;
  std::string peer_name;  // of the worker at the other end, empty when none was bound
};
using ReceiverAction =
    std::variant<AcceptPayload, RefusePayload, SendControl, CloseConnection, EmitReceiverEvent>;

struct ReceiverCensus {
  int32_t open = 0;  // handoffs
  int32_t landing = 0;
  int32_t quarantined = 0;
  int32_t posted_receives = 0;
  int32_t waiting_payloads = 0;
};

class ReceiverCore {
 public:
  explicit ReceiverCore(HandoffCoreOptions options, HandoffMutations mutations = {});

  // From the owner. `ticket` names `spec` and was never used before.
  // REQUIRES: spec.key is not open; the blocks are in the pool and in no other handoff.
  void Open(const LandingSpec& spec, const Ticket& ticket, absl::Time now);
  void Abort(const RequestKey& key, absl::Time now);
  void Shutdown(absl::Time now);  // fails everything and closes every connection

  // From the transport. A payload that comes with a message is answered by exactly one
  // AcceptPayload or RefusePayload.
  void ConnectionUp(ConnectionId connection, std::string transport_name, absl::Time now);
  struct Payload {
    PayloadId id;
    uint64_t length_bytes = 0;
  };
  void MessageArrived(ConnectionId connection, std::string_view header,
                      std::optional<Payload> payload, absl::Time now);
  // `checksum`: XXH3-64 of what landed; meaningful when `ok`.
  void ReceiveDone(TransferId receive, bool ok, uint64_t checksum, absl::Time now);
  void Disconnected(ConnectionId connection, std::string_view reason, absl::Time now);
  void ConnectionDestroyed(ConnectionId connection, absl::Time now);

  void Tick(absl::Time now);
  absl::Time NextDeadline() const { return next_deadline_; }  // when Tick has something to do

  // Everything that the events so far ask for, in order.
  std::vector<ReceiverAction> TakeActions();

  absl::Status CheckInvariants() const;
  ReceiverCensus census() const;

 private:
  enum class State { kOpen, kLanding, kQuarantined };
  enum class Place : uint8_t { kMissing, kExpected, kLanded };  // of one (layer, block)
  struct Handoff {
    LandingSpec spec;
    Ticket ticket;
    State state = State::kOpen;
    std::optional<ConnectionId> connection;
    std::vector<Place> places;  // [num_layers, num_blocks]
    int64_t missing = 0;        // places that are not kLanded
    int32_t posted = 0;         // receives
    std::optional<HandoffTail> tail;
    absl::Time first_byte;
    absl::Time tail_seen;
    absl::Time drain_deadline = absl::InfiniteFuture();
    int64_t bytes = 0;
  };
  enum class PeerState { kAwaitingHello, kReady, kRefused, kClosing };
  struct Peer {
    PeerState state = PeerState::kAwaitingHello;
    std::string transport_name;
    std::string worker_name;
    PeerClock clock;
    absl::Time close_at = absl::InfiniteFuture();
    int32_t handoffs = 0;  // bound to it, quarantined ones too
  };
  struct Waiting {  // a payload behind the window
    RequestKey key;
    Payload payload;
    ConnectionId connection;
    BlocksMessage message;
  };
  struct Receive {
    RequestKey key;
    ConnectionId connection;
    int32_t layer = 0;
    int32_t first_place = 0;  // relative to the handoff's first block
    int32_t num_blocks = 0;
    int64_t bytes = 0;
    uint64_t checksum = 0;
  };

  void OnHello(ConnectionId id, Peer& peer, const HelloMessage& hello, absl::Time now);
  void OnTicketed(ConnectionId id, Peer& peer, const WireMessage& message,
                  std::optional<Payload> payload, absl::Time now);
  void OnBlocks(Handoff& handoff, const BlocksMessage& message, const Payload& payload,
                absl::Time now);
  Handoff* FindByTicket(ConnectionId id, const Ticket& ticket);
  void StartWaiting(absl::Time now);  // posts receives while the window has room
  void Post(Handoff& handoff, const Waiting& waiting);
  void SealIfComplete(Handoff& handoff, absl::Time now);
  void Fail(Handoff& handoff, HandoffFailure failure, std::string message, absl::Time now);
  void Release(Handoff& handoff);
  void RefuseWaiting(const RequestKey& key);
  void Close(ConnectionId id, Peer& peer, std::string_view reason, absl::Time now);
  void TickPeers(absl::Time now);
  void TickHandoffs(absl::Time now);
  void Send(ConnectionId id, const WireMessage& message);
  void Emit(const Handoff& handoff, decltype(ReceiverEvent::what) what);
  void Schedule(absl::Time at) { next_deadline_ = std::min(next_deadline_, at); }
  absl::Status CheckHandoff(const Handoff& handoff, std::set<BlockId>& blocks) const;

  const HandoffCoreOptions options_;
  const HandoffMutations mutations_;
  std::map<RequestKey, Handoff> handoffs_;
  std::map<ConnectionId, Peer> peers_;
  std::deque<Waiting> waiting_;
  std::map<TransferId, Receive> receives_;
  uint64_t next_transfer_ = 1;
  int64_t bytes_in_flight_ = 0;
  absl::Time next_deadline_ = absl::InfiniteFuture();
  std::vector<ReceiverAction> actions_;
};

}  // namespace baton
