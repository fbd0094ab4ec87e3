// The network of a simulated handoff: it carries out what the cores ask for, late, twice, broken or
// not at all.
#include "tests/unit/kvtransfer/handoff_simulation.h"

#include <algorithm>
#include <type_traits>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/hash.h"

namespace baton::testing {

void HandoffSimulation::Settle() {
  for (bool any = true; any && violation_.ok();) {
    any = false;
    for (const ReceiverAction& action : receiver_->TakeActions()) {
      any = true;
      std::visit(
          [this](const auto& what) {
            using What = std::decay_t<decltype(what)>;
            if constexpr (std::is_same_v<What, SendControl> ||
                          std::is_same_v<What, CloseConnection>) {
              DoReceiver(what);
            } else {
              Do(what);
            }
          },
          action);
    }
    for (int i = 0; i < kNumSenders; ++i) {
      for (const SenderAction& action : senders_[static_cast<size_t>(i)]->TakeActions()) {
        any = true;
        std::visit([this, i](const auto& what) { Do(i, what); }, action);
      }
    }
  }
}

size_t HandoffSimulation::WireOfReceiver(ConnectionId id) const {
  const auto it = std::find_if(wires_.begin(), wires_.end(),
                               [&](const Wire& wire) { return wire.receiver_id == id; });
  return static_cast<size_t>(it - wires_.begin());
}

size_t HandoffSimulation::WireOfSender(int sender, ConnectionId id) const {
  const auto it = std::find_if(wires_.begin(), wires_.end(), [&](const Wire& wire) {
    return wire.sender == sender && wire.sender_id == id;
  });
  return static_cast<size_t>(it - wires_.begin());
}

void HandoffSimulation::Do(int sender, const OpenConnection& open) {
  Wire wire;
  wire.sender = sender;
  wire.sender_id = open.connection;
  wire.receiver_id = ConnectionId(next_receiver_connection_++);
  wire.last_to_receiver = now_ + Between(100, 2'000);
  wire.last_to_sender = now_;
  const size_t index = wires_.size();
  wires_.push_back(wire);
  At(wire.last_to_receiver, [this, index] {
    Wire& w = wires_[index];
    if (!w.sender_end || w.severed) return;
    w.receiver_end = true;
    receiver_->ConnectionUp(w.receiver_id, "simulated", now_);
  });
  if (random_.Chance(fault_percent_)) {
    // The connection breaks: each side is told at a time of its own, or never.
    const bool silent = random_.Chance(40);
    After(Between(0, 60'000), [this, index, silent] {
      Wire& w = wires_[index];
      w.severed = true;
      if (silent) return;
      After(Between(0, 20'000), [this, index] {
        if (!wires_[index].receiver_end) return;
        receiver_->Disconnected(wires_[index].receiver_id, "broken", now_);
        Settle();
        if (wires_[index].receiver_end) Violation("a lost peer was not given up (H5)");
      });
      After(Between(0, 20'000), [this, index] {
        if (!wires_[index].sender_end) return;
        senders_[static_cast<size_t>(wires_[index].sender)]->Disconnected(wires_[index].sender_id,
                                                                          "broken", now_);
      });
    });
  }
}

void HandoffSimulation::Do(int sender, const SendControl& send) {
  ToReceiver(WireOfSender(sender, send.connection), send.header, std::nullopt);
}

void HandoffSimulation::DoReceiver(const SendControl& send) {
  ToSender(WireOfReceiver(send.connection), send.header);
}

void HandoffSimulation::ToSender(size_t wire, std::string header) {
  if (wire == wires_.size() || wires_[wire].severed || random_.Chance(fault_percent_ / 2)) return;
  const int copies = random_.Chance(fault_percent_) ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    const bool late = random_.Chance(fault_percent_);
    absl::Time at = now_ + (late ? Between(0, 100'000) : Between(50, 1'500));
    if (!late) at = wires_[wire].last_to_sender = std::max(at, wires_[wire].last_to_sender);
    At(at, [this, wire, header] {
      const Wire& w = wires_[wire];
      if (!w.sender_end || w.severed) return;
      senders_[static_cast<size_t>(w.sender)]->MessageArrived(w.sender_id, header, now_);
    });
  }
}

void HandoffSimulation::ToReceiver(size_t wire, std::string header,
                                   std::optional<size_t> transfer) {
  if (wire == wires_.size() || !wires_[wire].sender_end) return;
  if (wires_[wire].severed || random_.Chance(fault_percent_ / 2)) {
    // Dropped. UCX may call the send a success all the same.
    if (transfer && random_.Chance(50)) {
      transfers_[*transfer].unanswered = 1;
      After(Between(0, 10'000), [this, t = *transfer] { Answered(t); });
    }
    return;
  }
  const int copies = random_.Chance(fault_percent_) ? 2 : 1;
  if (transfer) {
    transfers_[*transfer].unanswered = copies;
    transfers_[*transfer].corrupt = random_.Chance(fault_percent_ / 2);
  }
  for (int i = 0; i < copies; ++i) {
    const bool late = random_.Chance(fault_percent_);
    absl::Time at = now_ + (late ? Between(0, 100'000) : Between(50, 1'500));
    if (!late) at = wires_[wire].last_to_receiver = std::max(at, wires_[wire].last_to_receiver);
    At(at, [this, wire, header, transfer] { ArriveAtReceiver(wire, header, transfer); });
  }
}

void HandoffSimulation::ArriveAtReceiver(size_t wire, const std::string& header,
                                         std::optional<size_t> transfer) {
  const Wire& w = wires_[wire];
  if (!w.receiver_end || w.severed) return;
  std::optional<ReceiverCore::Payload> payload;
  if (transfer) {
    payload = {PayloadId(next_payload_++), transfers_[*transfer].message.payload_bytes};
    payloads_[payload->id] = *transfer;
  }
  receiver_->MessageArrived(w.receiver_id, header, payload, now_);
}

void HandoffSimulation::Do(int sender, const SendBlocks& send) {
  Transfer transfer;
  transfer.wire = WireOfSender(sender, send.connection);
  transfer.send = send.send;
  transfer.message = send.message;
  transfer.source = send.blocks;
  uint64_t checksum = 0;
  Pool& pool = sources_[static_cast<size_t>(sender)];
  for (const BlockId block : send.blocks) {
    checksum = HashCombine(checksum, Value(pool, send.message.layer, block));
  }
  transfer.message.checksum = checksum;
  const size_t index = transfers_.size();
  transfers_.push_back(transfer);
  if (transfer.wire == wires_.size() || !wires_[transfer.wire].sender_end) {
    transfers_[index].done = true;
    return senders_[static_cast<size_t>(sender)]->SendDone(send.send, false, now_);
  }
  ToReceiver(transfer.wire, EncodeMessage(transfer.message), index);
}

void HandoffSimulation::Answered(size_t index) {
  Transfer& transfer = transfers_[index];
  if (--transfer.unanswered > 0 || transfer.done) return;
  After(Between(0, 1'000), [this, index] {
    Transfer& t = transfers_[index];
    if (t.done || wires_[t.wire].severed) return;
    t.done = true;
    senders_[static_cast<size_t>(wires_[t.wire].sender)]->SendDone(t.send, true, now_);
  });
}

void HandoffSimulation::Do(const RefusePayload& refuse) {
  const auto node = payloads_.extract(refuse.payload);
  if (node.empty()) return Violation("a payload was answered twice");
  Answered(node.mapped());
}

void HandoffSimulation::Do(const AcceptPayload& accept) {
  const auto node = payloads_.extract(accept.payload);
  if (node.empty()) return Violation("a payload was answered twice");
  const Transfer& transfer = transfers_[node.mapped()];
  const Side& side = requests_.at(transfer.message.ticket.key).receive;
  if (transfer.message.ticket != side.ticket) Violation("a wrong ticket was accepted (H3)");
  Receiving receiving;
  receiving.receive = accept.receive;
  receiving.transfer = node.mapped();
  receiving.wire = WireOfReceiver(accept.connection);
  receiving.key = transfer.message.ticket.key;
  receiving.generation = side.generation;
  receiving.layer = accept.layer;
  receiving.blocks = accept.blocks;
  const size_t index = receivings_.size();
  receivings_.push_back(receiving);
  absl::Time last = now_;
  const int64_t slowest_us = random_.Chance(fault_percent_) ? 200'000 : 2'000;
  for (size_t i = 0; i < accept.blocks.size(); ++i) {
    const absl::Time at = now_ + Between(0, slowest_us);
    last = std::max(last, at);
    At(at, [this, index, i] { WriteOne(index, i); });
  }
  At(last, [this, index] {
    Receiving& r = receivings_[index];
    if (r.ended) return;
    // Over a severed wire nothing ends by itself.
    if (wires_[r.wire].severed && !r.broken) return;
    EndReceiving(index, !r.broken);
    Answered(r.transfer);
  });
}

void HandoffSimulation::WriteOne(size_t index, size_t i) {
  Receiving& receiving = receivings_[index];
  if (receiving.ended || receiving.broken) return;
  const Transfer& transfer = transfers_[receiving.transfer];
  const Wire& wire = wires_[receiving.wire];
  if (wire.severed && random_.Chance(50)) return;  // this byte was already lost
  if (!wire.sender_end || transfer.done) {
    receiving.broken = true;  // nothing to read from any more
    return;
  }
  const auto logical = transfer.message.first_block + static_cast<int32_t>(i);
  Pool& source = sources_[static_cast<size_t>(wire.sender)];
  const BlockId from = transfer.source[i];
  const Owner sent_for{transfer.message.ticket.key, transfer.message.ticket.generation};
  if (source.owners[static_cast<size_t>(from.value())] != sent_for) {
    return Violation(absl::StrCat("block ", logical, " was read after its release (H7)"));
  }
  const BlockId to = receiving.blocks[i];
  const Owner landing_for{receiving.key, receiving.generation};
  if (landing_.owners[static_cast<size_t>(to.value())] != landing_for) {
    return Violation(absl::StrCat("block ", logical, " was written after its release (H2)"));
  }
  const uint64_t value = Value(source, receiving.layer, from);
  Value(landing_, receiving.layer, to) = transfer.corrupt && i == 0 ? ~value : value;
}

void HandoffSimulation::EndReceiving(size_t index, bool ok) {
  Receiving& receiving = receivings_[index];
  receiving.ended = true;
  uint64_t checksum = 0;
  for (const BlockId block : receiving.blocks) {
    checksum = HashCombine(checksum, Value(landing_, receiving.layer, block));
  }
  receiver_->ReceiveDone(receiving.receive, ok, checksum, now_);
}

void HandoffSimulation::DoReceiver(const CloseConnection& close) {
  const size_t wire = WireOfReceiver(close.connection);
  wires_[wire].receiver_end = false;
  for (size_t i = 0; i < receivings_.size(); ++i) {
    if (receivings_[i].wire != wire || receivings_[i].ended) continue;
    receivings_[i].ended = true;
    // Some transports report each receive, others only destroy it.
    if (random_.Chance(50)) receiver_->ReceiveDone(receivings_[i].receive, false, 0, now_);
  }
  receiver_->ConnectionDestroyed(close.connection, now_);
  if (wires_[wire].severed) return;
  After(Between(50, 5'000), [this, wire] {
    const Wire& w = wires_[wire];
    if (!w.sender_end) return;
    senders_[static_cast<size_t>(w.sender)]->Disconnected(w.sender_id, "peer closed", now_);
  });
}

void HandoffSimulation::Do(int sender, const CloseConnection& close) {
  const size_t wire = WireOfSender(sender, close.connection);
  wires_[wire].sender_end = false;
  SenderCore& core = *senders_[static_cast<size_t>(sender)];
  for (Transfer& transfer : transfers_) {
    if (transfer.wire != wire || transfer.done) continue;
    transfer.done = true;
    if (random_.Chance(50)) core.SendDone(transfer.send, false, now_);
  }
  core.ConnectionDestroyed(close.connection, now_);
  if (wires_[wire].severed) return;
  After(Between(50, 5'000), [this, wire] {
    if (!wires_[wire].receiver_end) return;
    receiver_->Disconnected(wires_[wire].receiver_id, "peer closed", now_);
  });
}

}  // namespace baton::testing
