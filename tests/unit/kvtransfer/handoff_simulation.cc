#include "tests/unit/kvtransfer/handoff_simulation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/hash.h"

namespace baton::testing {
namespace {

constexpr absl::Duration kPeerTimeout = absl::Milliseconds(60);
constexpr absl::Duration kDrainTimeout = absl::Milliseconds(90);
constexpr uint64_t kFingerprint = 5;
constexpr uint64_t kReceiverBoot = 9;
constexpr uint64_t kGarbage = 0xdeadbeef;

HandoffCoreOptions Options(const KvLayout& layout, int32_t num_blocks, uint64_t boot) {
  HandoffCoreOptions options;
  options.layout = layout;
  options.num_blocks = num_blocks;
  options.layout_fingerprint = kFingerprint;
  options.boot = BootId(boot);
  options.max_bytes_in_flight = 3 * layout.BlockBytes();  // tight: the window is exercised
  options.max_message_bytes = 2 * layout.BlockBytes();
  options.peer_timeout = kPeerTimeout;
  options.drain_timeout = kDrainTimeout;
  return options;
}

}  // namespace

uint64_t SeededRandom::Next() {
  state_ += 0x9e3779b97f4a7c15u;
  uint64_t x = state_;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

HandoffSimulation::HandoffSimulation(uint64_t seed, HandoffMutations mutations)
    : random_(seed), mutations_(mutations) {
  const KvLayout layout{
      .num_layers = kNumLayers, .num_kv_heads = 1, .head_dim = 2, .block_size = 1};
  receiver_ = std::make_unique<ReceiverCore>(Options(layout, kNumBlocks, kReceiverBoot), mutations);
  const auto make_pool = [] {
    Pool pool;
    pool.values.assign(size_t{kNumLayers} * kNumBlocks, kGarbage);
    pool.owners.resize(kNumBlocks);
    for (int32_t i = 0; i < kNumBlocks; ++i) pool.free.push_back(BlockId(i));
    return pool;
  };
  landing_ = make_pool();
  for (int i = 0; i < kNumSenders; ++i) {
    senders_.push_back(std::make_unique<SenderCore>(
        Options(layout, kNumBlocks, 20 + static_cast<uint64_t>(i)), mutations));
    sources_.push_back(make_pool());
  }
  constexpr int kFaultPercents[] = {0, 2, 5, 15};
  fault_percent_ = kFaultPercents[random_.Below(4)];
  const int64_t num_requests = 1 + random_.Below(3);
  for (int64_t i = 0; i < num_requests; ++i) {
    const RequestKey key{RequestId(static_cast<uint64_t>(i) + 1), 1};
    Request& request = requests_[key];
    request.sender = static_cast<int>(random_.Below(kNumSenders));
    request.num_blocks = static_cast<int32_t>(random_.Below(4));
    request.attempts_left = 2;
    After(Between(0, 5'000), [this, key] { StartRequest(key); });
  }
}

HandoffSimulation::~HandoffSimulation() = default;

void HandoffSimulation::At(absl::Time at, std::function<void()> run) {
  events_.push({std::max(at, now_), next_order_++, std::move(run)});
}

absl::Duration HandoffSimulation::Between(int64_t low_us, int64_t high_us) {
  return absl::Microseconds(low_us + random_.Below(high_us - low_us + 1));
}

absl::Status HandoffSimulation::Run() {
  constexpr int64_t kMostEvents = 20'000;  // a schedule that does not end is a violation too
  while (violation_.ok()) {
    absl::Time due = receiver_->NextDeadline();
    for (const auto& sender : senders_) due = std::min(due, sender->NextDeadline());
    if (!events_.empty() && events_.top().at <= due) {
      const Event event = events_.top();
      events_.pop();
      now_ = event.at;
      event.run();
    } else if (due < absl::InfiniteFuture()) {
      now_ = std::max(now_, due);
      if (receiver_->NextDeadline() <= now_) receiver_->Tick(now_);
      for (const auto& sender : senders_) {
        if (sender->NextDeadline() <= now_) sender->Tick(now_);
      }
    } else {
      break;
    }
    Settle();
    CheckCores();
    if (++counts_.events > kMostEvents) Violation("the schedule does not end (H5)");
  }
  if (violation_.ok()) CheckEnd();
  return violation_;
}

void HandoffSimulation::Violation(const std::string& what) {
  if (violation_.ok()) {
    violation_ = absl::InternalError(absl::StrCat("after ", counts_.events, " events, ",
                                                  absl::FormatDuration(now_ - absl::UnixEpoch()),
                                                  ": ", what));
  }
}

// ---------------------------------------------------------------- the owners

void HandoffSimulation::StartRequest(RequestKey key) {
  Request& request = requests_.at(key);
  if (landing_.free.size() < static_cast<size_t>(request.num_blocks)) {
    return After(Between(5'000, 20'000), [this, key] { StartRequest(key); });
  }
  Side& side = request.receive;
  const int32_t first_block = static_cast<int32_t>(random_.Below(3));
  const absl::Time lease = now_ + Between(5'000, 150'000);
  side = {};
  side.generation = next_generation_++;
  side.ticket = {key,          BootId(kReceiverBoot), side.generation,
                 kFingerprint, first_block,           request.num_blocks};
  side.ticket.mac = SignTicket(side.ticket, "a key of the simulation");
  side.blocks = Take(landing_, request.num_blocks, {key, side.generation});
  side.live = true;
  LandingSpec spec{key, first_block, side.blocks, 1, lease};
  receiver_->Open(spec, side.ticket, now_);
  After(Between(0, 3'000), [this, key] { StartSending(key); });
  if (random_.Chance(20)) After(Between(0, 40'000), [this, key] { AbortReceive(key); });
  if (random_.Chance(20)) After(Between(0, 40'000), [this, key] { AbortSend(key); });
}

void HandoffSimulation::StartSending(RequestKey key) {
  Request& request = requests_.at(key);
  Pool& pool = sources_[static_cast<size_t>(request.sender)];
  Side& side = request.send;
  if (side.live) return;
  if (pool.free.size() < static_cast<size_t>(request.num_blocks)) return;  // the lease will end it
  side = {};
  side.ticket = request.receive.ticket;
  if (random_.Chance(5)) side.ticket.mac[0] ^= 1;  // forged
  if (random_.Chance(5)) side.ticket.receiver_boot = BootId(8);
  side.generation = side.ticket.generation;
  const Owner owner{key, side.generation};
  side.blocks = Take(pool, request.num_blocks, owner);
  for (int32_t layer = 0; layer < kNumLayers; ++layer) {
    for (int32_t i = 0; i < request.num_blocks; ++i) {
      Value(pool, layer, side.blocks[static_cast<size_t>(i)]) =
          Expected(owner, layer, side.ticket.first_block + i);
    }
  }
  side.live = true;
  side.tail = {{static_cast<TokenId>(side.generation)}};
  const PeerAddress address{"decode", 1, kReceiverBoot, "m"};
  senders_[static_cast<size_t>(request.sender)]->Open(
      {key, side.ticket, address, now_ + Between(5'000, 150'000)}, now_);
  SchedulePushes(key);
}

void HandoffSimulation::SchedulePushes(RequestKey key) {
  const Request& request = requests_.at(key);
  const uint64_t generation = request.send.generation;
  absl::Time at = now_;
  std::vector<std::pair<int32_t, int32_t>> pieces;  // layer, index of a block
  for (int32_t layer = 0; layer < kNumLayers; ++layer) {
    for (int32_t i = 0; i < request.num_blocks; ++i) pieces.push_back({layer, i});
  }
  const bool one_by_one = random_.Chance(40);
  const auto push = [this, key, generation](int32_t layer, int32_t first, int32_t count) {
    Request& r = requests_.at(key);
    if (!r.send.live || r.send.generation != generation) return;
    const auto begin = r.send.blocks.begin() + first;
    senders_[static_cast<size_t>(r.sender)]->Push(key, layer, r.send.ticket.first_block + first,
                                                  {begin, begin + count}, now_);
  };
  if (one_by_one) {
    for (size_t i = pieces.size(); i > 1; --i) {
      std::swap(pieces[i - 1], pieces[static_cast<size_t>(random_.Below(static_cast<int64_t>(i)))]);
    }
    for (const auto& [layer, index] : pieces) {
      at += Between(0, 2'000);
      At(at, [push, l = layer, i = index] { push(l, i, 1); });
    }
  } else if (request.num_blocks > 0) {
    for (int32_t layer = 0; layer < kNumLayers; ++layer) {
      at += Between(0, 3'000);
      At(at, [push, layer, count = request.num_blocks] { push(layer, 0, count); });
    }
  }
  At(at, [this, key, generation] {
    Request& r = requests_.at(key);
    if (!r.send.live || r.send.generation != generation) return;
    senders_[static_cast<size_t>(r.sender)]->Finish(key, r.send.tail, now_);
  });
}

void HandoffSimulation::AbortReceive(RequestKey key) {
  Side& side = requests_.at(key).receive;
  if (!side.live) return;
  receiver_->Abort(key, now_);
  Settle();
  if (side.live && side.terminals == 0) Violation("an abort did not end the receive (H8)");
}

void HandoffSimulation::AbortSend(RequestKey key) {
  Request& request = requests_.at(key);
  if (!request.send.live) return;
  senders_[static_cast<size_t>(request.sender)]->Abort(key, now_);
  Settle();
  if (request.send.live && request.send.terminals == 0)
    Violation("an abort did not end the send (H8)");
}

void HandoffSimulation::MaybeReopen(RequestKey key) {
  Request& request = requests_.at(key);
  if (request.receive.live || request.send.live || request.attempts_left == 0) return;
  if (request.receive.terminals == 0 || request.send.terminals == 0) return;
  if (--request.attempts_left == 0 && random_.Chance(50)) return;
  ++counts_.reopened;
  request.receive.terminals = request.send.terminals = 0;
  request.sender =
      random_.Chance(70) ? request.sender : static_cast<int>(random_.Below(kNumSenders));
  After(Between(0, 1'000), [this, key] { StartRequest(key); });
}

// ---------------------------------------------------------------- actions

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

// ---------------------------------------------------------------- events to the owners

void HandoffSimulation::Do(const EmitReceiverEvent& emit) {
  Request& request = requests_.at(emit.event.key);
  Side& side = request.receive;
  if (!side.live) return Violation("an event came after Released");
  if (std::holds_alternative<ReceiverEvent::Released>(emit.event.what)) {
    if (side.terminals != 1) Violation("Released without exactly one end");
    for (const Receiving& r : receivings_) {
      if (r.key == emit.event.key && r.generation == side.generation && !r.ended) {
        Violation("Released while a receive is posted (H2)");
      }
    }
    side.live = false;
    Give(landing_, side.blocks);
    return MaybeReopen(emit.event.key);
  }
  if (++side.terminals > 1) return Violation("a handoff ended twice");
  const auto* sealed = std::get_if<ReceiverEvent::Sealed>(&emit.event.what);
  ++(sealed != nullptr ? counts_.sealed : counts_.failed);
  if (sealed == nullptr) return;
  side.succeeded = true;
  if (request.send.ticket != side.ticket || sealed->tail != request.send.tail) {
    return Violation("sealed with another handoff's tail (H4)");
  }
  for (int32_t layer = 0; layer < kNumLayers; ++layer) {
    for (int32_t i = 0; i < request.num_blocks; ++i) {
      const uint64_t landed = Value(landing_, layer, side.blocks[static_cast<size_t>(i)]);
      const Owner owner{emit.event.key, side.generation};
      if (landed != Expected(owner, layer, side.ticket.first_block + i)) {
        return Violation(
            absl::StrCat("sealed with wrong bytes in layer ", layer, ", block ", i, " (H4)"));
      }
    }
  }
}

void HandoffSimulation::Do(int sender, const EmitSenderEvent& emit) {
  Request& request = requests_.at(emit.event.key);
  Side& side = request.send;
  if (!side.live) return Violation("an event came after the sender's Released");
  if (std::holds_alternative<SenderEvent::Released>(emit.event.what)) {
    if (side.terminals != 1) Violation("the sender's Released without exactly one end");
    for (const Transfer& t : transfers_) {
      if (wires_[t.wire].sender == sender && t.message.ticket == side.ticket && !t.done) {
        Violation("the source was released while a send is posted (H7)");
      }
    }
    side.live = false;
    Give(sources_[static_cast<size_t>(sender)], side.blocks);
    return MaybeReopen(emit.event.key);
  }
  if (++side.terminals > 1) return Violation("a send ended twice");
  if (!std::holds_alternative<SenderEvent::Delivered>(emit.event.what)) return;
  ++counts_.delivered;
  const Side& other = request.receive;
  if (other.ticket != side.ticket || !other.succeeded) {
    Violation("delivered what was never sealed (H2b)");
  }
}

// ---------------------------------------------------------------- memory and checks

std::vector<BlockId> HandoffSimulation::Take(Pool& pool, int32_t count, const Owner& owner) {
  std::vector<BlockId> blocks;
  for (int32_t i = 0; i < count; ++i) {
    blocks.push_back(pool.free.front());
    pool.free.pop_front();
    pool.owners[static_cast<size_t>(blocks.back().value())] = owner;
    for (int32_t layer = 0; layer < kNumLayers; ++layer) {
      Value(pool, layer, blocks.back()) = kGarbage;
    }
  }
  return blocks;
}

void HandoffSimulation::Give(Pool& pool, const std::vector<BlockId>& blocks) {
  for (const BlockId block : blocks) {
    pool.owners[static_cast<size_t>(block.value())].reset();
    pool.free.push_front(block);
  }
}

uint64_t& HandoffSimulation::Value(Pool& pool, int32_t layer, BlockId block) {
  return pool.values[static_cast<size_t>(layer * kNumBlocks + block.value())];
}

uint64_t HandoffSimulation::Expected(const Owner& owner, int32_t layer, int32_t logical_block) {
  uint64_t value = HashCombine(owner.key.request.value(), owner.generation);
  value = HashCombine(value, static_cast<uint64_t>(layer));
  return HashCombine(value, static_cast<uint64_t>(logical_block));
}

void HandoffSimulation::CheckCores() {
  if (const absl::Status status = receiver_->CheckInvariants(); !status.ok()) {
    Violation(status.ToString());
  }
  for (const auto& sender : senders_) {
    if (const absl::Status status = sender->CheckInvariants(); !status.ok()) {
      Violation(status.ToString());
    }
  }
}

void HandoffSimulation::CheckEnd() {
  const ReceiverCensus received = receiver_->census();
  if (received.open + received.landing + received.quarantined + received.posted_receives +
          received.waiting_payloads !=
      0) {
    Violation("the receiver still holds something at the end (H5)");
  }
  for (const auto& sender : senders_) {
    const SenderCensus sent = sender->census();
    if (sent.active + sent.draining + sent.posted_sends != 0) {
      Violation("a sender still holds something at the end (H5)");
    }
  }
  if (landing_.free.size() != size_t{kNumBlocks}) Violation("landing blocks are missing (H1)");
  for (const Pool& pool : sources_) {
    if (pool.free.size() != size_t{kNumBlocks}) Violation("source blocks are missing (H1)");
  }
}

}  // namespace baton::testing
