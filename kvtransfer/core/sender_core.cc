#include "kvtransfer/core/sender_core.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton {

SenderCore::SenderCore(HandoffCoreOptions options, HandoffMutations mutations)
    : options_(std::move(options)), mutations_(mutations) {}

// ---------------------------------------------------------------- from the owner

void SenderCore::Open(const SendSpec& spec, absl::Time now) {
  BATON_CHECK(!handoffs_.contains(spec.key)) << "handoff " << spec.key << " is still open";
  Handoff& handoff = handoffs_[spec.key];
  handoff.spec = spec;
  handoff.connection = ConnectionTo(spec.peer, now);
  Peer& peer = peers_.at(handoff.connection);
  if (peer.handoffs++ == 0) peer.clock.Start(now);
  Schedule(spec.lease_deadline);
  Schedule(peer.clock.NextAsk(options_.peer_timeout));
  const Ticket& ticket = spec.ticket;
  const int64_t places = int64_t{ticket.num_blocks} * options_.layout.num_layers;
  if (ticket.num_blocks < 0 || ticket.num_blocks > options_.num_blocks || ticket.first_block < 0 ||
      ticket.key != spec.key) {
    return Fail(handoff, HandoffFailure::kTicketRefused,
                absl::StrCat("the ticket is not for this request, or its ", ticket.num_blocks,
                             " blocks are more than this worker has"),
                now);
  }
  if (ticket.layout_fingerprint != options_.layout_fingerprint) {
    return Fail(handoff, HandoffFailure::kTicketRefused,
                absl::StrCat("the ticket's layout fingerprint is ", ticket.layout_fingerprint,
                             ", this worker's is ", options_.layout_fingerprint),
                now);
  }
  handoff.pushed.assign(static_cast<size_t>(places), false);
  handoff.not_pushed = places;
  if (peer.state == PeerState::kReady) Begin(handoff);
}

ConnectionId SenderCore::ConnectionTo(const PeerAddress& address, absl::Time now) {
  for (const auto& [id, peer] : peers_) {
    if (peer.address == address && peer.state != PeerState::kClosing) return id;
  }
  const ConnectionId id(next_connection_++);
  Peer& peer = peers_[id];
  peer.address = address;
  peer.clock.Start(now);
  actions_.push_back(OpenConnection{id, address});
  Send(id, HelloMessage{options_.boot, options_.layout_fingerprint, options_.layout,
                        options_.worker_name});
  return id;
}

void SenderCore::Begin(Handoff& handoff) {
  handoff.state = State::kStreaming;
  Send(handoff.connection, BeginMessage{handoff.spec.ticket});
  TakeTurn(handoff);
  SendTailIfDue(handoff);
}

SenderCore::Handoff* SenderCore::FindActive(const RequestKey& key) {
  const auto it = handoffs_.find(key);
  if (it == handoffs_.end() || it->second.state == State::kDraining) return nullptr;
  return &it->second;
}

void SenderCore::Push(const RequestKey& key, int32_t layer, int32_t first_block,
                      const std::vector<BlockId>& blocks, absl::Time now) {
  Handoff* handoff = FindActive(key);
  if (handoff == nullptr || blocks.empty()) return;  // it has failed meanwhile
  const Ticket& ticket = handoff->spec.ticket;
  const int64_t first = int64_t{first_block} - ticket.first_block;
  const auto count = static_cast<int64_t>(blocks.size());
  const bool in_range = layer >= 0 && layer < options_.layout.num_layers && first >= 0 &&
                        first + count <= ticket.num_blocks && !handoff->tail;
  const auto begin =
      handoff->pushed.begin() + (in_range ? int64_t{layer} * ticket.num_blocks + first : 0);
  if (!in_range || std::find(begin, begin + count, true) != begin + count) {
    Fail(*handoff, HandoffFailure::kInternal,
         absl::StrCat("blocks [", first_block, ", +", count, ") of layer ", layer,
                      " were pushed twice, after the end, or are not in the ticket"),
         now);
    return Pump(now);
  }
  std::fill(begin, begin + count, true);
  handoff->not_pushed -= count;
  const int64_t per_message = options_.MessageBytes() / options_.layout.BlockBytes();
  for (int64_t at = 0; at < count; at += per_message) {
    const int64_t end = std::min(count, at + per_message);
    handoff->queue.push_back({layer,
                              first_block + static_cast<int32_t>(at),
                              {blocks.begin() + at, blocks.begin() + end}});
  }
  TakeTurn(*handoff);
  Pump(now);
}

void SenderCore::Finish(const RequestKey& key, const HandoffTail& tail, absl::Time now) {
  Handoff* handoff = FindActive(key);
  if (handoff == nullptr || handoff->tail) return;
  if (handoff->not_pushed > 0 || tail.first_tokens.size() > size_t{kMaxHandoffSamples}) {
    Fail(*handoff, HandoffFailure::kInternal,
         absl::StrCat("finished with ", handoff->not_pushed, " blocks not pushed and ",
                      tail.first_tokens.size(), " first tokens, at most ", kMaxHandoffSamples),
         now);
    return Pump(now);
  }
  handoff->tail = tail;
  SendTailIfDue(*handoff);
}

void SenderCore::Abort(const RequestKey& key, absl::Time now) {
  Handoff* handoff = FindActive(key);
  if (handoff == nullptr || mutations_.lose_cancel) return;
  Fail(*handoff, HandoffFailure::kAborted, "aborted by the prefill worker", now);
  Pump(now);
}

void SenderCore::Shutdown(absl::Time now) {
  for (auto& [id, peer] : peers_) {
    Close(id, peer, HandoffFailure::kAborted, "the prefill worker is shutting down", now);
  }
}

// ---------------------------------------------------------------- the window

void SenderCore::TakeTurn(Handoff& handoff) {
  if (handoff.in_turn || handoff.queue.empty() || handoff.state != State::kStreaming) return;
  handoff.in_turn = true;
  turns_.push_back(handoff.spec.key);
}

bool SenderCore::WindowAllows(const Peer& peer, int64_t bytes) const {
  const int64_t window = options_.max_bytes_in_flight;
  const auto transfers = static_cast<int32_t>(sends_.size());
  const bool fits =
      transfers == 0 || (bytes_in_flight_ + bytes <= window && transfers < options_.max_transfers);
  const bool fair = peer.transfers == 0 || (peer.bytes_in_flight + bytes <= window / 2 &&
                                            peer.transfers < options_.max_transfers / 2);
  return fits && fair;
}

void SenderCore::Pump(absl::Time) {
  size_t passed = 0;  // handoffs in a row that had to wait
  while (!turns_.empty() && passed < turns_.size()) {
    const RequestKey key = turns_.front();
    turns_.pop_front();
    Handoff& handoff = handoffs_.at(key);
    Peer& peer = peers_.at(handoff.connection);
    if (!WindowAllows(peer, BytesOf(handoff.queue.front()))) {
      turns_.push_back(key);
      ++passed;
      continue;
    }
    passed = 0;
    Post(handoff, peer);
    if (handoff.queue.empty()) {
      handoff.in_turn = false;
      SendTailIfDue(handoff);
    } else {
      turns_.push_back(key);
    }
  }
}

void SenderCore::Post(Handoff& handoff, Peer& peer) {
  Run run = std::move(handoff.queue.front());
  handoff.queue.pop_front();
  const int64_t bytes = BytesOf(run);
  const TransferId id(next_transfer_++);
  sends_[id] = {handoff.spec.key, handoff.connection, bytes};
  ++handoff.posted;
  peer.bytes_in_flight += bytes;
  ++peer.transfers;
  bytes_in_flight_ += bytes;
  const BlocksMessage message{handoff.spec.ticket, run.layer, run.first_block,
                              static_cast<int32_t>(run.blocks.size()),
                              static_cast<uint64_t>(bytes)};
  actions_.push_back(SendBlocks{handoff.connection, id, message, std::move(run.blocks)});
}

void SenderCore::SendTailIfDue(Handoff& handoff) {
  if (!handoff.tail || !handoff.queue.empty() || handoff.state != State::kStreaming) return;
  handoff.state = State::kTailSent;
  Send(handoff.connection, TailMessage{handoff.spec.ticket, *handoff.tail});
}

void SenderCore::SendDone(TransferId send, bool ok, absl::Time now) {
  const auto it = sends_.find(send);
  BATON_CHECK(it != sends_.end()) << "send " << send << " completed twice";
  const PostedSend done = it->second;
  sends_.erase(it);
  bytes_in_flight_ -= done.bytes;
  if (const auto peer = peers_.find(done.connection); peer != peers_.end()) {
    peer->second.bytes_in_flight -= done.bytes;
    --peer->second.transfers;
  }
  const auto found = handoffs_.find(done.key);
  if (found == handoffs_.end()) {
    BATON_CHECK(mutations_.early_unpin) << done.key;
    return Pump(now);
  }
  Handoff& handoff = found->second;
  --handoff.posted;
  if (handoff.state == State::kDraining) {
    if (handoff.posted == 0) Release(handoff);
  } else if (!ok) {
    Fail(handoff, HandoffFailure::kPeerLost, "a send ended with an error", now);
  } else if (mutations_.delivered_on_send_done && handoff.state == State::kTailSent &&
             handoff.posted == 0) {
    Emit(handoff, SenderEvent::Delivered{});
    End(handoff, now);
  }
  Pump(now);
}

// ---------------------------------------------------------------- from the receiver

void SenderCore::MessageArrived(ConnectionId connection, std::string_view header, absl::Time now) {
  const auto it = peers_.find(connection);
  if (it == peers_.end() || it->second.state == PeerState::kClosing) return;
  Peer& peer = it->second;
  peer.clock.Heard(now);
  const absl::StatusOr<WireMessage> message = DecodeMessage(header);
  if (!message.ok()) {
    return Close(connection, peer, HandoffFailure::kTicketRefused, View(message.status().message()),
                 now);
  }
  if (const auto* goodbye = std::get_if<GoodbyeMessage>(&*message)) {
    return Close(connection, peer, HandoffFailure::kTicketRefused, goodbye->reason, now);
  }
  if (std::holds_alternative<PingMessage>(*message)) return Send(connection, PongMessage{});
  if (std::holds_alternative<PongMessage>(*message)) return;
  const auto* hello = std::get_if<HelloMessage>(&*message);
  if ((hello != nullptr) != (peer.state == PeerState::kAwaitingHello)) {
    return Close(connection, peer, HandoffFailure::kPeerLost, "message out of order", now);
  }
  if (hello != nullptr) return OnHello(connection, peer, *hello, now);
  OnAnswer(connection, *message, now);
}

void SenderCore::OnHello(ConnectionId id, Peer& peer, const HelloMessage& hello, absl::Time now) {
  peer.worker_name = hello.worker_name;
  if (peer.address.boot_id != 0 && hello.boot.value() != peer.address.boot_id) {
    return Close(id, peer, HandoffFailure::kPeerLost,
                 absl::StrCat("the decode worker has restarted: boot ", hello.boot.value(),
                              ", expected ", peer.address.boot_id),
                 now);
  }
  if (hello.layout_fingerprint != options_.layout_fingerprint) {
    return Close(id, peer, HandoffFailure::kTicketRefused,
                 absl::StrCat("KV layouts differ: prefill has ", options_.layout.ToString(),
                              ", decode has ", hello.layout.ToString()),
                 now);
  }
  peer.state = PeerState::kReady;
  for (auto& [key, handoff] : handoffs_) {
    if (handoff.connection == id && handoff.state == State::kConnecting) Begin(handoff);
  }
  Pump(now);
}

void SenderCore::OnAnswer(ConnectionId id, const WireMessage& message, absl::Time now) {
  const auto* sealed = std::get_if<SealedMessage>(&message);
  const auto* abort = std::get_if<AbortMessage>(&message);
  if (sealed == nullptr && abort == nullptr) {
    return Close(id, peers_.at(id), HandoffFailure::kPeerLost, "a receiver sent a sender's message",
                 now);
  }
  const Ticket& ticket = sealed != nullptr ? sealed->ticket : abort->ticket;
  Handoff* handoff = FindActive(ticket.key);
  if (handoff == nullptr || handoff->spec.ticket != ticket || handoff->connection != id) return;
  if (abort != nullptr) {
    Fail(*handoff, abort->failure,
         abort->failure == HandoffFailure::kTicketRefused ? "the decode worker refused the ticket"
                                                          : "the decode worker ended the handoff",
         now);
  } else if (handoff->state != State::kTailSent) {
    Fail(*handoff, HandoffFailure::kInternal, "sealed before everything was sent", now);
  } else {
    Emit(*handoff, SenderEvent::Delivered{});
    End(*handoff, now);
  }
  Pump(now);
}

// ---------------------------------------------------------------- ends

void SenderCore::Fail(Handoff& handoff, HandoffFailure failure, std::string message,
                      absl::Time now) {
  Emit(handoff, SenderEvent::Failed{failure, std::move(message)});
  // Also before the peer's hello: ours is on its way in front of this.
  if (peers_.at(handoff.connection).state != PeerState::kClosing) {
    Send(handoff.connection, AbortMessage{handoff.spec.ticket, failure});
  }
  End(handoff, now);
}

void SenderCore::End(Handoff& handoff, absl::Time now) {
  handoff.state = State::kDraining;
  handoff.queue.clear();
  if (handoff.in_turn) std::erase(turns_, handoff.spec.key);
  handoff.in_turn = false;
  handoff.drain_deadline = now + options_.drain_timeout;
  Schedule(handoff.drain_deadline);
  if (handoff.posted == 0 || mutations_.early_unpin) Release(handoff);
}

void SenderCore::Release(Handoff& handoff) {
  Emit(handoff, SenderEvent::Released{});
  --peers_.at(handoff.connection).handoffs;
  handoffs_.erase(handoff.spec.key);
}

// ---------------------------------------------------------------- the rest

void SenderCore::Send(ConnectionId id, const WireMessage& message) {
  actions_.push_back(SendControl{id, EncodeMessage(message)});
}

void SenderCore::Emit(const Handoff& handoff, decltype(SenderEvent::what) what) {
  actions_.push_back(EmitSenderEvent{{handoff.spec.key, std::move(what)},
                                     peers_.at(handoff.connection).worker_name});
}

std::vector<SenderAction> SenderCore::TakeActions() { return std::exchange(actions_, {}); }

SenderCensus SenderCore::census() const {
  SenderCensus census;
  for (const auto& [key, handoff] : handoffs_) {
    (handoff.state == State::kDraining ? census.draining : census.active) += 1;
  }
  census.posted_sends = static_cast<int32_t>(sends_.size());
  return census;
}

}  // namespace baton
