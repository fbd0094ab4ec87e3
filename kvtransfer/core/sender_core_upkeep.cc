// The parts of SenderCore that no single handoff owns: connections, time, self-checks.
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "kvtransfer/core/sender_core.h"

namespace baton {

// ---------------------------------------------------------------- connections

void SenderCore::Disconnected(ConnectionId connection, std::string_view reason, absl::Time now) {
  const auto it = peers_.find(connection);
  if (it == peers_.end()) return;
  Close(connection, it->second, HandoffFailure::kPeerLost, reason, now);
}

void SenderCore::Close(ConnectionId id, Peer& peer, HandoffFailure failure, std::string_view reason,
                       absl::Time now) {
  if (peer.state == PeerState::kClosing) return;
  peer.state = PeerState::kClosing;
  std::vector<RequestKey> active;
  for (const auto& [key, handoff] : handoffs_) {
    if (handoff.connection == id && handoff.state != State::kDraining) active.push_back(key);
  }
  for (const RequestKey& key : active) {
    Fail(handoffs_.at(key), failure, std::string(reason), now);
  }
  actions_.push_back(CloseConnection{id, std::string(reason)});
  Pump(now);
}

void SenderCore::ConnectionDestroyed(ConnectionId connection, absl::Time now) {
  std::vector<TransferId> ended;
  for (const auto& [id, send] : sends_) {
    if (send.connection == connection) ended.push_back(id);
  }
  for (const TransferId id : ended) SendDone(id, false, now);
  peers_.erase(connection);
}

// ---------------------------------------------------------------- time

void SenderCore::Tick(absl::Time now) {
  next_deadline_ = absl::InfiniteFuture();
  TickHandoffs(now);
  TickPeers(now);
  Pump(now);
}

void SenderCore::TickHandoffs(absl::Time now) {
  std::vector<RequestKey> expired;
  for (const auto& [key, handoff] : handoffs_) {
    if (handoff.state != State::kDraining) {
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

void SenderCore::TickPeers(absl::Time now) {
  std::vector<ConnectionId> overdue;
  for (const auto& [key, handoff] : handoffs_) {
    if (handoff.drain_deadline <= now) overdue.push_back(handoff.connection);
  }
  for (const ConnectionId id : overdue) {
    Close(id, peers_.at(id), HandoffFailure::kPeerLost, "posted sends did not end", now);
  }
  for (auto& [id, peer] : peers_) {
    if (peer.state == PeerState::kClosing || peer.handoffs == 0) continue;
    if (peer.clock.Lost(now, options_.peer_timeout)) {
      Close(id, peer, HandoffFailure::kPeerLost,
            absl::StrCat(peer.state == PeerState::kReady ? "silent for " : "no answer for ",
                         absl::FormatDuration(options_.peer_timeout)),
            now);
      continue;
    }
    if (peer.clock.AskNow(now, options_.peer_timeout)) {
      peer.clock.last_asked = now;
      if (peer.state == PeerState::kReady) Send(id, PingMessage{});
    }
    Schedule(peer.clock.NextAsk(options_.peer_timeout));
    Schedule(peer.clock.last_heard + options_.peer_timeout);
  }
}

// ---------------------------------------------------------------- self-checks

absl::Status SenderCore::CheckInvariants() const {
  std::map<RequestKey, int32_t> posted;
  int64_t bytes = 0;
  for (const auto& [id, send] : sends_) {
    bytes += send.bytes;
    ++posted[send.key];
    if (!handoffs_.contains(send.key)) {
      return absl::InternalError("sender: a posted send has no handoff (H7)");
    }
  }
  if (bytes != bytes_in_flight_) return absl::InternalError("sender: bytes miscounted");
  const bool too_many = static_cast<int32_t>(sends_.size()) > options_.max_transfers;
  if ((bytes > options_.max_bytes_in_flight || too_many) && sends_.size() > 1) {
    return absl::InternalError("sender: window exceeded");
  }
  for (const auto& [key, handoff] : handoffs_) {
    const auto broken = [request = key.request](std::string_view what) {
      return absl::InternalError(
          absl::StrCat("sender, request ", request.value(), ": ", View(what)));
    };
    if (posted[key] != handoff.posted) return broken("posted sends miscounted (H7)");
    const Peer& peer = peers_.at(handoff.connection);
    const bool draining = handoff.state == State::kDraining;
    if (draining && handoff.posted == 0) return broken("draining with nothing posted (H5)");
    if (draining && !handoff.queue.empty()) return broken("draining with runs queued (H8)");
    if (!draining && peer.state == PeerState::kClosing) return broken("active, peer lost (H5)");
    if (handoff.state == State::kTailSent && !handoff.queue.empty()) {
      return broken("tail sent before everything was");
    }
    if (handoff.in_turn != (!handoff.queue.empty() && handoff.state == State::kStreaming)) {
      return broken("queued, yet not in turn");
    }
  }
  return absl::OkStatus();
}

}  // namespace baton
