// How connections and handoffs end in the simulated KV network.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/faults/kv_network.h"

namespace baton::sim {
namespace {

constexpr absl::Duration kMostNotice = absl::Milliseconds(20);  // until an end hears of a break

}  // namespace

size_t KvNetwork::WireOf(const KvEnd& end, ConnectionId id) const {
  for (size_t i = wires_.size(); i-- > 0;) {
    const Wire& wire = wires_[i];
    if (wire.sender == end.id() && wire.sender_id == id) return i;
    if (wire.receiver == end.id() && wire.receiver_id == id) return i;
  }
  return wires_.size();
}

KvWeather KvNetwork::WeatherOf(const Wire& wire) const {
  const KvWeather a = host_.Weather(wire.sender.worker);
  const KvWeather b = host_.Weather(wire.receiver.worker);
  return {.noise_percent = std::max(a.noise_percent, b.noise_percent),
          .slow_writes = std::max(a.slow_writes, b.slow_writes),
          .partitioned = a.partitioned || b.partitioned};
}

// ------------------------------------------------------------------ connections

void KvNetwork::TellSender(size_t index, absl::Duration after, const char* why) {
  events_.After(after, [this, index, why] {
    host_.InProcess(wires_[index].sender, [this, index, why](KvEnd& end) {
      if (!wires_[index].sender_end) return;
      end.sender()->Disconnected(wires_[index].sender_id, why, end.Now());
    });
  });
}

void KvNetwork::TellReceiver(size_t index, absl::Duration after, const char* why) {
  events_.After(after, [this, index, why] {
    host_.InProcess(wires_[index].receiver, [this, index, why](KvEnd& end) {
      if (!wires_[index].receiver_end) return;
      end.receiver()->Disconnected(wires_[index].receiver_id, why, end.Now());
      Settle(end);
      if (wires_[index].receiver_end) throw Violation("H5: a lost peer was not given up");
    });
  });
}

void KvNetwork::Sever(size_t index, bool silent) {
  if (std::exchange(wires_[index].severed, true) || silent) return;
  TellSender(index, random_.Between(absl::ZeroDuration(), kMostNotice), "broken");
  TellReceiver(index, random_.Between(absl::ZeroDuration(), kMostNotice), "broken");
}

void KvNetwork::Cut(int32_t worker, bool silent) {
  for (size_t i = 0; i < wires_.size(); ++i) {
    if (wires_[i].sender.worker == worker || wires_[i].receiver.worker == worker) Sever(i, silent);
  }
}

void KvNetwork::Died(ProcessId process, bool silent) {
  for (size_t i = 0; i < wires_.size(); ++i) {
    if (wires_[i].sender != process && wires_[i].receiver != process) continue;
    Sever(i, silent);
    (wires_[i].sender == process ? wires_[i].sender_end : wires_[i].receiver_end) = false;
  }
}

void KvNetwork::CloseSender(KvEnd& end, const CloseConnection& close) {
  const size_t index = WireOf(end, close.connection);
  wires_[index].sender_end = false;
  for (Transfer& transfer : transfers_) {
    if (transfer.wire != index || transfer.done) continue;
    transfer.done = true;
    --sources_[{end.id(), NameOf(transfer.message.ticket)}];
    // Some transports report each send, others only destroy it.
    if (random_.Chance(50)) end.sender()->SendDone(transfer.send, false, end.Now());
  }
  end.sender()->ConnectionDestroyed(close.connection, end.Now());
  if (!wires_[index].severed) {
    TellReceiver(index, random_.Between(absl::ZeroDuration(), kMostNotice), "peer closed");
  }
}

void KvNetwork::CloseReceiver(KvEnd& end, const CloseConnection& close) {
  const size_t index = WireOf(end, close.connection);
  wires_[index].receiver_end = false;
  for (Receiving& receiving : receivings_) {
    if (receiving.wire != index || receiving.ended) continue;
    receiving.ended = true;
    const auto landing = landings_.find(NameOf(transfers_[receiving.transfer].message.ticket));
    if (landing != landings_.end()) --landing->second.posted;
    if (random_.Chance(50)) end.receiver()->ReceiveDone(receiving.receive, false, 0, end.Now());
  }
  end.receiver()->ConnectionDestroyed(close.connection, end.Now());
  if (!wires_[index].severed) {
    TellSender(index, random_.Between(absl::ZeroDuration(), kMostNotice), "peer closed");
  }
}

// ------------------------------------------------------------------ handoffs

void KvNetwork::Ended(KvEnd& end, const TicketName& name, bool released) {
  const bool first = ended_.insert({end.id(), name}).second;
  if (first == released) {
    throw Violation(first ? "a handoff was released before its end" : "a handoff ended twice");
  }
}

void KvNetwork::Do(KvEnd& end, const EmitReceiverEvent& emit) {
  const auto found = landing_names_.find({end.id(), emit.event.key});
  if (found == landing_names_.end()) {
    throw Violation("a receiver spoke of a handoff that it had released");
  }
  const TicketName name = found->second;
  const bool released = std::holds_alternative<ReceiverEvent::Released>(emit.event.what);
  Ended(end, name, released);
  if (std::holds_alternative<ReceiverEvent::Sealed>(emit.event.what)) sealed_.insert(name);
  if (released) {
    if (landings_.at(name).posted != 0) {
      throw Violation("H2: landing blocks were released while a receive was posted");
    }
    landings_.erase(name);
    landing_names_.erase(found);
  }
  end.OnHandoff(emit.event);
}

void KvNetwork::Do(KvEnd& end, const EmitSenderEvent& emit) {
  const auto found = source_names_.find({end.id(), emit.event.key});
  if (found == source_names_.end()) {
    throw Violation("a sender spoke of a handoff that it had released");
  }
  const TicketName name = found->second;
  const bool released = std::holds_alternative<SenderEvent::Released>(emit.event.what);
  Ended(end, name, released);
  const bool delivered = std::holds_alternative<SenderEvent::Delivered>(emit.event.what);
  if (delivered && !sealed_.contains(name)) {
    throw Violation("H2b: delivered what was never sealed");
  }
  if (released) {
    const auto source = sources_.find({end.id(), name});
    if (source->second != 0) {
      throw Violation("H7: source blocks were released while a send was posted");
    }
    sources_.erase(source);
    source_names_.erase(found);
  }
  end.OnHandoff(emit.event);
}

}  // namespace baton::sim
