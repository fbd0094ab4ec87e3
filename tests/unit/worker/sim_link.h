// A KV link between one prefill and one decode worker for schedule tests: it keeps the contracts of
// KvSender and KvReceiver, moves simulated KV at moments that the test chooses, and fails when
// told.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "common/check.h"
#include "kvtransfer/kv_receiver.h"
#include "kvtransfer/kv_sender.h"
#include "worker/role_core.h"

namespace baton {

// The simulated content of a KV pool: one number for each (layer, block, slot).
class SimMemory {
 public:
  SimMemory(int32_t layers, int32_t blocks, int32_t block_size)
      : block_size_(block_size),
        layers_(static_cast<size_t>(layers),
                std::vector<uint64_t>(static_cast<size_t>(blocks * block_size))) {}
  uint64_t& At(int32_t layer, BlockId block, int32_t slot) {
    return layers_[static_cast<size_t>(layer)]
                  [static_cast<size_t>(block.value() * block_size_ + slot)];
  }
  void CopyBlock(SimMemory& from, int32_t layer, BlockId source, BlockId target) {
    for (int32_t slot = 0; slot < block_size_; ++slot) {
      At(layer, target, slot) = from.At(layer, source, slot);
    }
  }
  std::vector<uint64_t> Block(int32_t layer, BlockId block) {
    std::vector<uint64_t> content;
    for (int32_t slot = 0; slot < block_size_; ++slot) content.push_back(At(layer, block, slot));
    return content;
  }
  int32_t num_layers() const { return static_cast<int32_t>(layers_.size()); }

 private:
  const int32_t block_size_;
  std::vector<std::vector<uint64_t>> layers_;
};

// Not thread-safe. Events wait in FIFO order for each key and side until the test delivers them.
class SimLink {
 public:
  SimLink(SimMemory& source, SimMemory& target) : source_(source), target_(target) {}

  // ---- calls of the cores
  class Sender final : public KvSender {
   public:
    explicit Sender(SimLink& link) : link_(link) {}
    void Open(SendSpec spec) override {
      BATON_CHECK(!link_.sends_.contains(spec.key)) << spec.key;
      link_.sends_[spec.key].ticket = spec.ticket;
    }
    void Push(RequestKey key, int32_t layer, int32_t first_block,
              std::vector<BlockId> blocks) override {
      Send& send = link_.sends_.at(key);
      if (send.ended) return;
      for (size_t i = 0; i < blocks.size(); ++i) {
        const int32_t logical = first_block + static_cast<int32_t>(i);
        BATON_CHECK(send.pushed.insert({layer, logical}).second) << "pushed twice: " << key;
        send.copies.push_back({layer, logical, blocks[i], link_.source_.Block(layer, blocks[i])});
      }
    }
    void Finish(RequestKey key, HandoffTail tail) override {
      Send& send = link_.sends_.at(key);
      if (send.ended) return;
      const auto wanted = static_cast<size_t>(send.ticket.num_blocks * link_.source_.num_layers());
      BATON_CHECK(send.pushed.size() == wanted) << send.pushed.size() << " of " << wanted;
      send.tail = std::move(tail);
    }
    void Abort(RequestKey key) override { link_.FailSend(key, HandoffFailure::kAborted); }

   private:
    SimLink& link_;
  };

  class Receiver final : public KvReceiver {
   public:
    explicit Receiver(SimLink& link) : link_(link) {}
    PeerAddress address() const override { return {}; }
    Ticket Open(LandingSpec spec) override {
      const RequestKey key = spec.key;
      BATON_CHECK(!link_.landings_.contains(key)) << key;
      Landing& landing = link_.landings_[key];
      landing.ticket = {.key = key,
                        .generation = ++link_.generation_,
                        .first_block = spec.first_block,
                        .num_blocks = static_cast<int32_t>(spec.blocks.size())};
      landing.spec = std::move(spec);
      return landing.ticket;
    }
    void Abort(RequestKey key) override { link_.FailLanding(key, HandoffFailure::kAborted); }

   private:
    SimLink& link_;
  };

  // ---- what the test makes happen
  std::vector<RequestKey> Sends() const { return Keys(sends_); }
  std::vector<RequestKey> Landings() const { return Keys(landings_); }

  // Moves one pushed block, even for a handoff that has ended but is not released: a late write.
  void CopyOne(RequestKey key) {
    Send& send = sends_.at(key);
    if (send.copies.empty()) return;
    const Copy copy = send.copies.front();
    send.copies.pop_front();
    // Final when pushed, and pinned until Released (H7), whatever has ended meanwhile.
    BATON_CHECK(source_.Block(copy.layer, copy.source) == copy.content)
        << "block " << copy.source << " of " << key << " changed while it could still be sent";
    const auto landing = landings_.find(key);
    if (landing == landings_.end() || landing->second.ticket != send.ticket) return;
    const auto index = static_cast<size_t>(copy.logical - landing->second.spec.first_block);
    target_.CopyBlock(source_, copy.layer, copy.source, landing->second.spec.blocks.at(index));
  }
  // Seals when everything has moved and both sides are open.
  void TrySeal(RequestKey key) {
    const auto send = sends_.find(key);
    const auto landing = landings_.find(key);
    if (send == sends_.end() || landing == landings_.end()) return;
    if (send->second.ended || landing->second.ended || !send->second.tail.has_value()) return;
    if (!send->second.copies.empty()) return;
    send->second.ended = landing->second.ended = true;
    landing->second.events.push_back({key, ReceiverEvent::Sealed{.tail = *send->second.tail}});
    landing->second.events.push_back({key, ReceiverEvent::Released{}});
    send->second.events.push_back({key, SenderEvent::Delivered{}});
    send->second.events.push_back({key, SenderEvent::Released{}});
  }
  void FailSend(RequestKey key, HandoffFailure failure) {
    const auto send = sends_.find(key);
    if (send == sends_.end() || send->second.ended) return;
    send->second.ended = true;
    send->second.events.push_back({key, SenderEvent::Failed{failure, "sim"}});
    send->second.events.push_back({key, SenderEvent::Released{}});
  }
  void FailLanding(RequestKey key, HandoffFailure failure) {
    const auto landing = landings_.find(key);
    if (landing == landings_.end() || landing->second.ended) return;
    landing->second.ended = true;
    landing->second.events.push_back({key, ReceiverEvent::Failed{failure, "sim"}});
    landing->second.events.push_back({key, ReceiverEvent::Released{}});
  }
  // The next event of a side, or none. After Released the link touches no block of the key.
  std::optional<SenderEvent> TakeSenderEvent(RequestKey key) { return Take(sends_, key); }
  std::optional<ReceiverEvent> TakeReceiverEvent(RequestKey key) { return Take(landings_, key); }

 private:
  struct Copy {
    int32_t layer = 0;
    int32_t logical = 0;
    BlockId source;
    std::vector<uint64_t> content;  // when it was pushed
  };
  struct Send {
    Ticket ticket;
    std::set<std::pair<int32_t, int32_t>> pushed;
    std::deque<Copy> copies;
    std::optional<HandoffTail> tail;
    bool ended = false;
    std::deque<SenderEvent> events;
  };
  struct Landing {
    Ticket ticket;
    LandingSpec spec;
    bool ended = false;
    std::deque<ReceiverEvent> events;
  };

  template <typename Side>
  static std::vector<RequestKey> Keys(const std::map<RequestKey, Side>& sides) {
    std::vector<RequestKey> keys;
    for (const auto& [key, side] : sides) keys.push_back(key);
    return keys;
  }
  template <typename Side>
  static auto Take(std::map<RequestKey, Side>& sides, RequestKey key)
      -> std::optional<typename decltype(Side::events)::value_type> {
    const auto found = sides.find(key);
    if (found == sides.end() || found->second.events.empty()) return std::nullopt;
    auto event = std::move(found->second.events.front());
    found->second.events.pop_front();
    using Event = typename decltype(Side::events)::value_type;
    if (std::holds_alternative<typename Event::Released>(event.what)) sides.erase(found);
    return event;
  }

  SimMemory& source_;
  SimMemory& target_;
  std::map<RequestKey, Send> sends_;
  std::map<RequestKey, Landing> landings_;
  uint64_t generation_ = 0;
};

}  // namespace baton
