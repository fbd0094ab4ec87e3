// The schedule of a simulated handoff: the cores, the loop over events, and the owners who open,
// push, abort and try again.
#include "tests/unit/kvtransfer/handoff_simulation.h"

#include <algorithm>
#include <utility>

namespace baton::testing {
namespace {

constexpr absl::Duration kPeerTimeout = absl::Milliseconds(60);
constexpr absl::Duration kDrainTimeout = absl::Milliseconds(90);
constexpr uint64_t kFingerprint = 5;
constexpr uint64_t kReceiverBoot = 9;

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

}  // namespace baton::testing
