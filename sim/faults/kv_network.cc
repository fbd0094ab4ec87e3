#include "sim/faults/kv_network.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baton::sim {
namespace {

constexpr absl::Duration kLeastLatency = absl::Microseconds(50);
constexpr absl::Duration kMostLatency = absl::Microseconds(1500);
constexpr absl::Duration kMostDelay = absl::Milliseconds(400);  // of a message that is late
constexpr absl::Duration kMostWrite = absl::Milliseconds(2);

}  // namespace

void KvNetwork::LandingOpened(KvEnd& end, const Ticket& ticket,
                              const std::vector<BlockId>& blocks) {
  landings_[NameOf(ticket)] = {ticket, {blocks.begin(), blocks.end()}, 0};
  landing_names_[{end.id(), ticket.key}] = NameOf(ticket);
}

void KvNetwork::SourceOpened(KvEnd& end, const Ticket& ticket) {
  source_names_[{end.id(), ticket.key}] = NameOf(ticket);
  sources_[{end.id(), NameOf(ticket)}] = 0;
}

// ------------------------------------------------------------------ what the cores ask for

void KvNetwork::Settle(KvEnd& end) {
  bool quiet = false;
  while (!std::exchange(quiet, true)) {
    if (SenderCore* const sender = end.sender()) {
      for (const SenderAction& action : sender->TakeActions()) {
        quiet = false;
        if (const auto* control = std::get_if<SendControl>(&action)) {
          FromSender(end, *control);
        } else if (const auto* close = std::get_if<CloseConnection>(&action)) {
          CloseSender(end, *close);
        } else if (const auto* open = std::get_if<OpenConnection>(&action)) {
          Do(end, *open);
        } else if (const auto* send = std::get_if<SendBlocks>(&action)) {
          Do(end, *send);
        } else {
          Do(end, std::get<EmitSenderEvent>(action));
        }
      }
      if (const absl::Status status = sender->CheckInvariants(); !status.ok()) {
        throw Violation(status.ToString());
      }
    }
    if (ReceiverCore* const receiver = end.receiver()) {
      for (const ReceiverAction& action : receiver->TakeActions()) {
        quiet = false;
        if (const auto* control = std::get_if<SendControl>(&action)) {
          FromReceiver(end, *control);
        } else if (const auto* close = std::get_if<CloseConnection>(&action)) {
          CloseReceiver(end, *close);
        } else if (const auto* accept = std::get_if<AcceptPayload>(&action)) {
          Do(end, *accept);
        } else if (const auto* refuse = std::get_if<RefusePayload>(&action)) {
          Do(*refuse);
        } else {
          Do(end, std::get<EmitReceiverEvent>(action));
        }
      }
      if (const absl::Status status = receiver->CheckInvariants(); !status.ok()) {
        throw Violation(status.ToString());
      }
    }
  }
}

void KvNetwork::Do(KvEnd& end, const OpenConnection& open) {
  Wire wire;
  wire.sender = end.id();
  wire.sender_id = open.connection;
  wire.receiver_id = ConnectionId(next_connection_++);
  wire.last_to_sender = wire.last_to_receiver = events_.now();
  const std::optional<ProcessId> listener = host_.Running(open.peer.port);
  wire.receiver = listener.value_or(ProcessId{open.peer.port, BootId(0)});
  const size_t index = wires_.size();
  wires_.push_back(wire);
  if (WeatherOf(wire).partitioned) {
    wires_[index].severed = true;
  } else if (!listener.has_value()) {
    TellSender(index, kMostLatency, "connection refused");
  } else {
    wires_[index].last_to_receiver += random_.Between(kLeastLatency, kMostLatency);
    events_.At(wires_[index].last_to_receiver, [this, index] {
      host_.InProcess(wires_[index].receiver, [this, index](KvEnd& receiver) {
        Wire& w = wires_[index];
        if (!w.sender_end || w.severed) return;
        w.receiver_end = true;
        receiver.receiver()->ConnectionUp(w.receiver_id, "simulated", receiver.Now());
      });
    });
  }
}

void KvNetwork::Do(KvEnd& end, const SendBlocks& send) {
  Transfer transfer;
  transfer.wire = WireOf(end, send.connection);
  transfer.send = send.send;
  transfer.message = send.message;
  transfer.source = send.blocks;
  transfer.message.checksum = Checksum(end.memory(), send.message.layer, send.blocks);
  for (const BlockId block : send.blocks) {
    transfer.content.push_back(end.memory().Hash(send.message.layer, block));
  }
  const size_t index = transfers_.size();
  transfers_.push_back(std::move(transfer));
  const size_t wire = transfers_[index].wire;
  if (wire == wires_.size() || !wires_[wire].sender_end) {
    transfers_[index].done = true;
    return end.sender()->SendDone(send.send, false, end.Now());
  }
  const TicketName name = NameOf(send.message.ticket);
  const auto source = sources_.find({end.id(), name});
  if (source == sources_.end()) throw Violation("H7: a send was posted after its Released");
  ++source->second;
  ToReceiver(wire, EncodeMessage(transfers_[index].message), index);
}

void KvNetwork::FromSender(KvEnd& end, const SendControl& send) {
  ToReceiver(WireOf(end, send.connection), send.header, std::nullopt);
}

void KvNetwork::FromReceiver(KvEnd& end, const SendControl& send) {
  ToSender(WireOf(end, send.connection), send.header);
}

size_t KvNetwork::TakePayload(PayloadId payload) {
  const auto node = payloads_.extract(payload);
  if (node.empty()) throw Violation("a payload was answered twice");
  return node.mapped();
}

void KvNetwork::Do(const RefusePayload& refuse) { Answered(TakePayload(refuse.payload)); }

void KvNetwork::Do(KvEnd& end, const AcceptPayload& accept) {
  const size_t index_of_transfer = TakePayload(accept.payload);
  const Transfer& transfer = transfers_[index_of_transfer];
  const auto landing = landings_.find(NameOf(transfer.message.ticket));
  if (landing == landings_.end() || landing->second.ticket != transfer.message.ticket) {
    throw Violation("H3: the payload of a wrong ticket was accepted");
  }
  for (const BlockId block : accept.blocks) {
    if (!landing->second.blocks.contains(block)) {
      throw Violation("H3: a payload was accepted for blocks of another handoff");
    }
  }
  ++landing->second.posted;
  Receiving receiving;
  receiving.receive = accept.receive;
  receiving.transfer = index_of_transfer;
  receiving.wire = WireOf(end, accept.connection);
  receiving.layer = accept.layer;
  receiving.blocks = accept.blocks;
  const KvWeather weather = WeatherOf(wires_[receiving.wire]);
  const absl::Duration slowest = kMostWrite * weather.slow_writes;
  const size_t index = receivings_.size();
  absl::Time last = events_.now();
  receivings_.push_back(std::move(receiving));
  for (size_t i = 0; i < accept.blocks.size(); ++i) {
    const absl::Time at = events_.now() + random_.Between(absl::ZeroDuration(), slowest);
    last = std::max(last, at);
    events_.At(at, [this, index, i] { WriteOne(index, i); });
  }
  events_.At(last, [this, index] {
    host_.InProcess(wires_[receivings_[index].wire].receiver,
                    [this, index](KvEnd&) { EndReceiving(index); });
  });
}

// ------------------------------------------------------------------ messages

absl::Time KvNetwork::Arrival(absl::Time* last, int32_t noise) {
  if (random_.Chance(noise)) {
    return events_.now() + random_.Between(absl::ZeroDuration(), kMostDelay);  // overtaken
  }
  *last = std::max(*last, events_.now() + random_.Between(kLeastLatency, kMostLatency));
  return *last;
}

void KvNetwork::ToSender(size_t index, std::string header) {
  if (index == wires_.size()) return;
  Wire& wire = wires_[index];
  const int32_t noise = WeatherOf(wire).noise_percent;
  if (wire.severed || random_.Chance(noise / 2)) return;
  for (int32_t copies = random_.Chance(noise) ? 2 : 1; copies > 0; --copies) {
    events_.At(Arrival(&wire.last_to_sender, noise), [this, index, header] {
      host_.InProcess(wires_[index].sender, [this, index, header](KvEnd& end) {
        const Wire& w = wires_[index];
        if (!w.sender_end || w.severed) return;
        end.sender()->MessageArrived(w.sender_id, header, end.Now());
      });
    });
  }
}

void KvNetwork::ToReceiver(size_t index, std::string header, std::optional<size_t> transfer) {
  if (index == wires_.size() || !wires_[index].sender_end) return;
  Wire& wire = wires_[index];
  const int32_t noise = WeatherOf(wire).noise_percent;
  if (wire.severed || random_.Chance(noise / 2)) {
    // Lost. A transport may call the send a success all the same.
    if (transfer.has_value() && random_.Chance(50)) {
      transfers_[*transfer].unanswered = 1;
      transfers_[*transfer].lost = true;
      events_.After(random_.Between(absl::ZeroDuration(), absl::Milliseconds(10)),
                    [this, t = *transfer] { Answered(t); });
    }
    return;
  }
  const int32_t copies = random_.Chance(noise) ? 2 : 1;
  if (transfer.has_value()) {
    transfers_[*transfer].unanswered = copies;
    transfers_[*transfer].corrupt = random_.Chance(noise / 2);
  }
  for (int32_t i = 0; i < copies; ++i) {
    events_.At(Arrival(&wire.last_to_receiver, noise), [this, index, header, transfer] {
      host_.InProcess(wires_[index].receiver, [this, index, header, transfer](KvEnd& end) {
        Arrive(index, header, transfer, end);
      });
    });
  }
}

void KvNetwork::Arrive(size_t index, const std::string& header, std::optional<size_t> transfer,
                       KvEnd& end) {
  const Wire& wire = wires_[index];
  if (!wire.receiver_end || wire.severed) return;
  std::optional<ReceiverCore::Payload> payload;
  if (transfer.has_value()) {
    payload = {PayloadId(next_payload_++), transfers_[*transfer].message.payload_bytes};
    payloads_[payload->id] = *transfer;
  }
  end.receiver()->MessageArrived(wire.receiver_id, header, payload, end.Now());
}

void KvNetwork::Answered(size_t index) {
  if (--transfers_[index].unanswered > 0 || transfers_[index].done) return;
  events_.After(random_.Between(absl::ZeroDuration(), absl::Milliseconds(1)), [this, index] {
    host_.InProcess(wires_[transfers_[index].wire].sender, [this, index](KvEnd& end) {
      Transfer& transfer = transfers_[index];
      if (transfer.done || (wires_[transfer.wire].severed && !transfer.lost)) return;
      transfer.done = true;
      --sources_[{end.id(), NameOf(transfer.message.ticket)}];
      end.sender()->SendDone(transfer.send, true, end.Now());
    });
  });
}

// ------------------------------------------------------------------ payloads

// Memory is written whether or not the processor of the receiving side runs at the moment.
void KvNetwork::WriteOne(size_t index, size_t i) {
  Receiving& receiving = receivings_[index];
  if (receiving.ended || receiving.broken) return;
  const Transfer& transfer = transfers_[receiving.transfer];
  const Wire& wire = wires_[receiving.wire];
  if (wire.severed && random_.Chance(50)) return;  // this byte was already lost
  KvEnd* const receiver = host_.Alive(wire.receiver);
  if (receiver == nullptr) return;
  KvEnd* const sender = host_.Alive(wire.sender);
  if (sender == nullptr || !wire.sender_end || transfer.done) {
    receiving.broken = true;  // nothing to read from any more
    return;
  }
  const TicketName name = NameOf(transfer.message.ticket);
  const BlockId from = transfer.source[i];
  const BlockId to = receiving.blocks[i];
  const auto landing = landings_.find(name);
  if (landing == landings_.end() || !landing->second.blocks.contains(to)) {
    throw Violation(absl::StrCat(
        "H2: block ", to.value(), " of worker ", wire.receiver.worker, " was written for request ",
        transfer.message.ticket.key.request.value(), " after its release"));
  }
  if (!sources_.contains({wire.sender, name}) ||
      sender->memory().Hash(receiving.layer, from) != transfer.content[i]) {
    throw Violation(absl::StrCat(
        "H7: block ", from.value(), " of worker ", wire.sender.worker, " was read for request ",
        transfer.message.ticket.key.request.value(), " after its release"));
  }
  receiver->memory().CopyFrom(sender->memory(), receiving.layer, from, to);
  if (transfer.corrupt && i == 0) receiver->memory().At(receiving.layer, to, 0) ^= 1;
  ++landed_;
}

void KvNetwork::EndReceiving(size_t index) {
  Receiving& receiving = receivings_[index];
  const Wire& wire = wires_[receiving.wire];
  if (receiving.ended) return;
  // Over a severed wire nothing ends by itself.
  if (wire.severed && !receiving.broken) return;
  receiving.ended = true;
  KvEnd* const end = host_.Alive(wire.receiver);
  const auto landing = landings_.find(NameOf(transfers_[receiving.transfer].message.ticket));
  if (landing != landings_.end()) --landing->second.posted;
  end->receiver()->ReceiveDone(receiving.receive, !receiving.broken,
                               Checksum(end->memory(), receiving.layer, receiving.blocks),
                               end->Now());
  Answered(receiving.transfer);
}

uint64_t KvNetwork::Checksum(ToyMemory& memory, int32_t layer, const std::vector<BlockId>& blocks) {
  uint64_t checksum = 0;
  for (const BlockId block : blocks) checksum = HashCombine(checksum, memory.Hash(layer, block));
  return checksum;
}

}  // namespace baton::sim
