// The parts of ReceiverCore that no single handoff owns: connections, time, self-checks.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "kvtransfer/core/receiver_core.h"

namespace baton {

// ---------------------------------------------------------------- connections

void ReceiverCore::Disconnected(ConnectionId connection, std::string_view reason, absl::Time now) {
  const auto it = peers_.find(connection);
  if (it == peers_.end() || mutations_.ignore_disconnect) return;
  Close(connection, it->second, reason, now);
}

void ReceiverCore::Close(ConnectionId id, Peer& peer, std::string_view reason, absl::Time now) {
  if (peer.state == PeerState::kClosing) return;
  peer.state = PeerState::kClosing;
  std::vector<RequestKey> bound;
  for (const auto& [key, handoff] : handoffs_) {
    if (handoff.connection == id && handoff.state == State::kLanding) bound.push_back(key);
  }
  for (const RequestKey& key : bound) {
    Fail(handoffs_.at(key), HandoffFailure::kPeerLost, std::string(reason), now);
  }
  actions_.push_back(CloseConnection{id, std::string(reason)});
  StartWaiting(now);
}

void ReceiverCore::ConnectionDestroyed(ConnectionId connection, absl::Time now) {
  // A transport calls every `done` while a connection is destroyed; whatever it still owed would
  // have ended with it (H2).
  std::vector<TransferId> ended;
  for (const auto& [id, receive] : receives_) {
    if (receive.connection == connection) ended.push_back(id);
  }
  for (const TransferId id : ended) ReceiveDone(id, false, 0, now);
  peers_.erase(connection);
}

// ---------------------------------------------------------------- time

void ReceiverCore::Tick(absl::Time now) {
  next_deadline_ = absl::InfiniteFuture();
  TickHandoffs(now);
  TickPeers(now);
  StartWaiting(now);
}

void ReceiverCore::TickHandoffs(absl::Time now) {
  std::vector<RequestKey> expired;
  for (auto& [key, handoff] : handoffs_) {
    if (handoff.state != State::kQuarantined) {
      if (handoff.spec.lease_deadline <= now) {
        expired.push_back(key);
      } else {
        Schedule(handoff.spec.lease_deadline);
      }
    } else if (handoff.drain_deadline > now) {
      Schedule(handoff.drain_deadline);
    }
  }
  for (const RequestKey& key : expired) {
    Fail(handoffs_.at(key), HandoffFailure::kLeaseExpired, "not sealed before its lease ended",
         now);
  }
}

void ReceiverCore::TickPeers(absl::Time now) {
  std::set<ConnectionId> overdue;  // their receives did not end in time
  for (const auto& [key, handoff] : handoffs_) {
    if (handoff.connection && handoff.drain_deadline <= now) overdue.insert(*handoff.connection);
  }
  for (auto& [id, peer] : peers_) {
    if (peer.state == PeerState::kClosing) continue;
    if (overdue.contains(id)) {
      Close(id, peer, "posted receives did not end", now);
    } else if (peer.close_at <= now) {
      Close(id, peer, "no hello in time", now);
    } else if (peer.handoffs == 0 || peer.state != PeerState::kReady) {
      Schedule(peer.close_at);
    } else if (peer.clock.Lost(now, options_.peer_timeout)) {
      Close(id, peer, absl::StrCat("silent for ", absl::FormatDuration(options_.peer_timeout)),
            now);
    } else {
      if (peer.clock.AskNow(now, options_.peer_timeout)) {
        peer.clock.last_asked = now;
        Send(id, PingMessage{});
      }
      Schedule(peer.clock.NextAsk(options_.peer_timeout));
      Schedule(peer.clock.last_heard + options_.peer_timeout);
    }
  }
}

// ---------------------------------------------------------------- self-checks

absl::Status ReceiverCore::CheckHandoff(const Handoff& handoff, std::set<BlockId>& blocks) const {
  const auto broken = [&](std::string_view what) {
    return absl::InternalError(
        absl::StrCat("receiver, request ", handoff.spec.key.request.value(), ": ", View(what)));
  };
  int32_t posted = 0;
  for (const auto& [id, receive] : receives_) posted += receive.key == handoff.spec.key;
  if (posted != handoff.posted) return broken("posted receives miscounted (H2)");
  const auto landed = std::count(handoff.places.begin(), handoff.places.end(), Place::kLanded);
  if (handoff.missing + landed != static_cast<int64_t>(handoff.places.size())) {
    return broken("landed places miscounted (H4)");
  }
  for (const BlockId block : handoff.spec.blocks) {
    if (!blocks.insert(block).second) return broken("a landing block has two handoffs (H1)");
  }
  switch (handoff.state) {
    case State::kOpen:
      if (handoff.connection || handoff.posted != 0) return broken("open, yet bound");
      break;
    case State::kLanding:
      if (!handoff.connection) return broken("landing, yet not bound");
      if (peers_.at(*handoff.connection).state != PeerState::kReady) {
        return broken("landing on a connection that is not ready (H5)");
      }
      if (handoff.tail && handoff.missing == 0) return broken("complete, yet not sealed");
      break;
    case State::kQuarantined:
      if (handoff.posted == 0) return broken("quarantined with nothing posted (H5)");
      break;
  }
  return absl::OkStatus();
}

absl::Status ReceiverCore::CheckInvariants() const {
  std::set<BlockId> blocks;
  for (const auto& [key, handoff] : handoffs_) RETURN_IF_ERROR(CheckHandoff(handoff, blocks));
  int64_t bytes = 0;
  for (const auto& [id, receive] : receives_) {
    bytes += receive.bytes;
    if (!handoffs_.contains(receive.key)) {
      return absl::InternalError("receiver: a posted receive has no handoff (H2)");
    }
  }
  if (bytes != bytes_in_flight_) return absl::InternalError("receiver: bytes miscounted");
  const bool too_many = static_cast<int32_t>(receives_.size()) > options_.max_transfers;
  if ((bytes > options_.max_bytes_in_flight || too_many) && receives_.size() > 1) {
    return absl::InternalError("receiver: window exceeded");
  }
  for (const Waiting& waiting : waiting_) {
    const auto it = handoffs_.find(waiting.key);
    if (it == handoffs_.end() || it->second.state != State::kLanding) {
      return absl::InternalError("receiver: a payload waits for a handoff that is over");
    }
  }
  return absl::OkStatus();
}

}  // namespace baton
