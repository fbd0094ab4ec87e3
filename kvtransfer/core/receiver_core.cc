#include "kvtransfer/core/receiver_core.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton {

ReceiverCore::ReceiverCore(HandoffCoreOptions options, HandoffMutations mutations)
    : options_(std::move(options)), mutations_(mutations) {}

// ---------------------------------------------------------------- from the owner

void ReceiverCore::Open(const LandingSpec& spec, const Ticket& ticket, absl::Time now) {
  BATON_CHECK(!handoffs_.contains(spec.key)) << "handoff " << spec.key << " is still open";
  for (const BlockId block : spec.blocks) {
    BATON_CHECK(block.value() >= 0 && block.value() < options_.num_blocks) << block;
  }
  Handoff& handoff = handoffs_[spec.key];
  handoff.spec = spec;
  handoff.ticket = ticket;
  handoff.places.assign(spec.blocks.size() * static_cast<size_t>(options_.layout.num_layers),
                        Place::kMissing);
  handoff.missing = static_cast<int64_t>(handoff.places.size());
  Schedule(spec.lease_deadline);
  if (spec.num_samples < 1 || spec.num_samples > kMaxHandoffSamples) {
    Fail(handoff, HandoffFailure::kInternal,
         absl::StrCat("num_samples is ", spec.num_samples, ", allowed 1 to ", kMaxHandoffSamples),
         now);
  }
}

void ReceiverCore::Abort(const RequestKey& key, absl::Time now) {
  if (mutations_.lose_cancel) return;
  const auto it = handoffs_.find(key);
  if (it == handoffs_.end()) return;
  if (it->second.state == State::kQuarantined && !mutations_.double_terminal) return;
  Fail(it->second, HandoffFailure::kAborted, "aborted by the decode worker", now);
  StartWaiting(now);
}

void ReceiverCore::Shutdown(absl::Time now) {
  std::vector<RequestKey> keys;
  for (const auto& [key, handoff] : handoffs_) {
    if (handoff.state != State::kQuarantined) keys.push_back(key);
  }
  for (const RequestKey& key : keys) {
    Fail(handoffs_.at(key), HandoffFailure::kAborted, "the decode worker is shutting down", now);
  }
  for (auto& [id, peer] : peers_) Close(id, peer, "shutting down", now);
}

// ---------------------------------------------------------------- from the transport

void ReceiverCore::ConnectionUp(ConnectionId connection, std::string transport_name,
                                absl::Time now) {
  Peer& peer = peers_[connection];
  peer.transport_name = std::move(transport_name);
  peer.clock.Start(now);
  peer.close_at = now + options_.peer_timeout;  // unless it says hello
  Schedule(peer.close_at);
}

void ReceiverCore::MessageArrived(ConnectionId connection, std::string_view header,
                                  std::optional<Payload> payload, absl::Time now) {
  const auto refuse = [&] {
    if (payload) actions_.push_back(RefusePayload{payload->id});
  };
  const auto it = peers_.find(connection);
  if (it == peers_.end() || it->second.state == PeerState::kClosing ||
      it->second.state == PeerState::kRefused) {
    return refuse();
  }
  Peer& peer = it->second;
  peer.clock.Heard(now);
  const absl::StatusOr<WireMessage> message = DecodeMessage(header);
  if (!message.ok()) {
    refuse();
    return Close(connection, peer, View(message.status().message()), now);
  }
  const bool is_blocks = std::holds_alternative<BlocksMessage>(*message);
  const bool is_hello = std::holds_alternative<HelloMessage>(*message);
  if (is_blocks != payload.has_value() || is_hello != (peer.state == PeerState::kAwaitingHello)) {
    refuse();
    return Close(connection, peer, "message out of order", now);
  }
  if (is_hello) return OnHello(connection, peer, std::get<HelloMessage>(*message), now);
  if (std::holds_alternative<PingMessage>(*message)) return Send(connection, PongMessage{});
  if (std::holds_alternative<PongMessage>(*message)) return;
  if (std::holds_alternative<GoodbyeMessage>(*message) ||
      std::holds_alternative<SealedMessage>(*message)) {
    return Close(connection, peer, "a sender sent a receiver's message", now);
  }
  OnTicketed(connection, peer, *message, payload, now);
}

void ReceiverCore::OnHello(ConnectionId id, Peer& peer, const HelloMessage& hello, absl::Time now) {
  peer.worker_name = hello.worker_name;
  if (hello.layout_fingerprint != options_.layout_fingerprint) {
    const bool same_layout = hello.layout == options_.layout;
    peer.state = PeerState::kRefused;
    // The sender closes after the goodbye; if it does not, we do.
    peer.close_at = now + options_.peer_timeout;
    Schedule(peer.close_at);
    return Send(
        id, GoodbyeMessage{absl::StrCat(
                same_layout ? "models differ: " : "KV layouts differ: ", "prefill has ",
                hello.layout.ToString(), " fingerprint ", hello.layout_fingerprint, ", decode has ",
                options_.layout.ToString(), " fingerprint ", options_.layout_fingerprint)});
  }
  peer.state = PeerState::kReady;
  peer.close_at = absl::InfiniteFuture();
  Send(id, HelloMessage{options_.boot, options_.layout_fingerprint, options_.layout,
                        options_.worker_name});
}

ReceiverCore::Handoff* ReceiverCore::FindByTicket(ConnectionId id, const Ticket& ticket) {
  auto it = handoffs_.find(ticket.key);
  if (mutations_.match_request_only) it = handoffs_.lower_bound({ticket.key.request, 0});
  if (it == handoffs_.end() || it->first.request != ticket.key.request) return nullptr;
  Handoff& handoff = it->second;
  const bool equal = handoff.ticket == ticket;
  if (!equal && !mutations_.accept_stale_generation && !mutations_.match_request_only) {
    return nullptr;
  }
  if (handoff.state == State::kQuarantined) return nullptr;
  // A ticket is used by one connection only: a second sender with it is an impostor or a ghost.
  if (handoff.connection && *handoff.connection != id) return nullptr;
  return &handoff;
}

void ReceiverCore::OnTicketed(ConnectionId id, Peer& peer, const WireMessage& message,
                              std::optional<Payload> payload, absl::Time now) {
  const auto ticket = std::visit(
      [](const auto& m) {
        if constexpr (requires { m.ticket; }) {
          return m.ticket;
        } else {
          return Ticket{};
        }
      },
      message);
  Handoff* handoff = FindByTicket(id, ticket);
  const auto* abort = std::get_if<AbortMessage>(&message);
  if (handoff == nullptr) {
    if (payload) actions_.push_back(RefusePayload{payload->id});
    if (abort == nullptr) Send(id, AbortMessage{ticket, HandoffFailure::kTicketRefused});
    return;
  }
  if (handoff->state == State::kOpen) {
    handoff->state = State::kLanding;
    handoff->connection = id;
    ++peer.handoffs;
    Schedule(peer.clock.NextAsk(options_.peer_timeout));
  }
  if (abort != nullptr) {
    Fail(*handoff, abort->failure, "aborted by the prefill worker", now);
    return StartWaiting(now);
  }
  if (const auto* blocks = std::get_if<BlocksMessage>(&message)) {
    return OnBlocks(*handoff, *blocks, *payload, now);
  }
  if (const auto* tail = std::get_if<TailMessage>(&message)) {
    if (handoff->tail) return;
    if (tail->tail.first_tokens.size() != static_cast<size_t>(handoff->spec.num_samples)) {
      Fail(*handoff, HandoffFailure::kInternal,
           absl::StrCat("the tail has ", tail->tail.first_tokens.size(), " first tokens, expected ",
                        handoff->spec.num_samples),
           now);
      return StartWaiting(now);
    }
    handoff->tail = tail->tail;
    handoff->tail_seen = now;
    SealIfComplete(*handoff, now);
  }
}

void ReceiverCore::OnBlocks(Handoff& handoff, const BlocksMessage& message, const Payload& payload,
                            absl::Time now) {
  const int64_t first = int64_t{message.first_block} - handoff.spec.first_block;
  const auto num_blocks = static_cast<int64_t>(handoff.spec.blocks.size());
  const bool in_range = message.layer >= 0 && message.layer < options_.layout.num_layers &&
                        message.num_blocks > 0 && first >= 0 &&
                        first + message.num_blocks <= num_blocks;
  const bool sized =
      payload.length_bytes == message.payload_bytes &&
      payload.length_bytes <= static_cast<uint64_t>(options_.MessageBytes()) &&
      message.payload_bytes == static_cast<uint64_t>(message.num_blocks) *
                                   static_cast<uint64_t>(options_.layout.BlockBytes());
  if (!in_range || !sized) {
    actions_.push_back(RefusePayload{payload.id});
    Fail(handoff, HandoffFailure::kInternal,
         absl::StrCat("blocks [", message.first_block, ", +", message.num_blocks, ") of layer ",
                      message.layer, " with ", payload.length_bytes,
                      " bytes are not part of the handoff"),
         now);
    return StartWaiting(now);
  }
  const auto begin = handoff.places.begin() + message.layer * num_blocks + first;
  const auto end = begin + message.num_blocks;
  const bool seen = std::any_of(begin, end, [](Place place) { return place != Place::kMissing; });
  if (seen && !mutations_.accept_duplicate_blocks) {
    actions_.push_back(RefusePayload{payload.id});
    return;
  }
  std::fill(begin, end, Place::kExpected);
  if (handoff.bytes == 0) handoff.first_byte = now;
  handoff.bytes += static_cast<int64_t>(payload.length_bytes);
  waiting_.push_back({handoff.spec.key, payload, *handoff.connection, message});
  StartWaiting(now);
}

void ReceiverCore::StartWaiting(absl::Time) {
  while (!waiting_.empty()) {
    const auto bytes = static_cast<int64_t>(waiting_.front().payload.length_bytes);
    const bool fits =
        receives_.empty() || (bytes_in_flight_ + bytes <= options_.max_bytes_in_flight &&
                              static_cast<int32_t>(receives_.size()) < options_.max_transfers);
    if (!fits) return;
    const Waiting waiting = waiting_.front();
    waiting_.pop_front();
    Post(handoffs_.at(waiting.key), waiting);
  }
}

void ReceiverCore::Post(Handoff& handoff, const Waiting& waiting) {
  const BlocksMessage& message = waiting.message;
  const TransferId id(next_transfer_++);
  const int32_t first = message.first_block - handoff.spec.first_block;
  const auto bytes = static_cast<int64_t>(message.payload_bytes);
  receives_[id] = {waiting.key, waiting.connection, message.layer, first, message.num_blocks,
                   bytes,       message.checksum};
  bytes_in_flight_ += bytes;
  ++handoff.posted;
  const auto begin = handoff.spec.blocks.begin() + first;
  actions_.push_back(AcceptPayload{waiting.connection,
                                   waiting.payload.id,
                                   id,
                                   message.layer,
                                   {begin, begin + message.num_blocks}});
}

void ReceiverCore::ReceiveDone(TransferId receive, bool ok, uint64_t checksum, absl::Time now) {
  const auto it = receives_.find(receive);
  BATON_CHECK(it != receives_.end()) << "receive " << receive << " completed twice";
  const Receive done = it->second;
  receives_.erase(it);
  bytes_in_flight_ -= done.bytes;
  const auto found = handoffs_.find(done.key);
  if (found == handoffs_.end()) {
    BATON_CHECK(mutations_.release_on_timeout || mutations_.seal_before_landed ||
                mutations_.first_receive_frees)
        << done.key;
    return;
  }
  Handoff& handoff = found->second;
  --handoff.posted;
  if (handoff.state == State::kQuarantined) {
    if (handoff.posted == 0 || mutations_.first_receive_frees) Release(handoff);
  } else if (!ok && !mutations_.failed_receive_lands) {
    Fail(handoff, HandoffFailure::kPeerLost, "a receive ended with an error", now);
  } else if (ok && checksum != done.checksum && !mutations_.skip_checksum) {
    Fail(handoff, HandoffFailure::kChecksum,
         absl::StrCat("layer ", done.layer, ", blocks [",
                      handoff.spec.first_block + done.first_place, ", +", done.num_blocks, ")"),
         now);
  } else {
    const auto num_blocks = static_cast<int64_t>(handoff.spec.blocks.size());
    const auto begin = handoff.places.begin() + done.layer * num_blocks + done.first_place;
    for (auto place = begin; place != begin + done.num_blocks; ++place) {
      if (*place != Place::kLanded) --handoff.missing;
      *place = Place::kLanded;
    }
    SealIfComplete(handoff, now);
  }
  StartWaiting(now);
}

// ---------------------------------------------------------------- ends of a handoff

void ReceiverCore::SealIfComplete(Handoff& handoff, absl::Time now) {
  if (!handoff.tail) return;
  if (handoff.missing > 0 && !mutations_.seal_before_landed) return;
  const Peer& peer = peers_.at(*handoff.connection);
  HandoffStats stats;
  stats.bytes = handoff.bytes;
  stats.transfer = handoff.bytes > 0 ? now - handoff.first_byte : absl::ZeroDuration();
  stats.exposed = now - handoff.tail_seen;
  stats.transport = peer.transport_name;
  Send(*handoff.connection, SealedMessage{handoff.ticket});
  Emit(handoff, ReceiverEvent::Sealed{*handoff.tail, std::move(stats)});
  RefuseWaiting(handoff.spec.key);
  Release(handoff);
}

void ReceiverCore::Fail(Handoff& handoff, HandoffFailure failure, std::string message,
                        absl::Time now) {
  Emit(handoff, ReceiverEvent::Failed{failure, std::move(message)});
  if (handoff.connection && peers_.at(*handoff.connection).state == PeerState::kReady) {
    Send(*handoff.connection, AbortMessage{handoff.ticket, failure});
  }
  RefuseWaiting(handoff.spec.key);
  handoff.state = State::kQuarantined;
  handoff.drain_deadline = now + options_.drain_timeout;
  Schedule(handoff.drain_deadline);
  const bool free_anyway =
      mutations_.release_on_timeout && failure == HandoffFailure::kLeaseExpired;
  if (handoff.posted == 0 || free_anyway) Release(handoff);
}

void ReceiverCore::Release(Handoff& handoff) {
  Emit(handoff, ReceiverEvent::Released{});
  if (handoff.connection) --peers_.at(*handoff.connection).handoffs;
  handoffs_.erase(handoff.spec.key);
}

void ReceiverCore::RefuseWaiting(const RequestKey& key) {
  for (const Waiting& waiting : waiting_) {
    if (waiting.key == key) actions_.push_back(RefusePayload{waiting.payload.id});
  }
  std::erase_if(waiting_, [&](const Waiting& w) { return w.key == key; });
}

// ---------------------------------------------------------------- the rest

void ReceiverCore::Send(ConnectionId id, const WireMessage& message) {
  actions_.push_back(SendControl{id, EncodeMessage(message)});
}

void ReceiverCore::Emit(const Handoff& handoff, decltype(ReceiverEvent::what) what) {
  std::string peer_name;
  if (handoff.connection) peer_name = peers_.at(*handoff.connection).worker_name;
  actions_.push_back(EmitReceiverEvent{{handoff.spec.key, std::move(what)}, std::move(peer_name)});
}

std::vector<ReceiverAction> ReceiverCore::TakeActions() { return std::exchange(actions_, {}); }

ReceiverCensus ReceiverCore::census() const {
  ReceiverCensus census;
  for (const auto& [key, handoff] : handoffs_) {
    census.open += handoff.state == State::kOpen;
    census.landing += handoff.state == State::kLanding;
    census.quarantined += handoff.state == State::kQuarantined;
  }
  census.posted_receives = static_cast<int32_t>(receives_.size());
  census.waiting_payloads = static_cast<int32_t>(waiting_.size());
  return census;
}

}  // namespace baton
