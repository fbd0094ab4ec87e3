// The judge of a simulated handoff: its memory, what its owners may be told when, and what must
// hold of the cores.
#include "tests/unit/kvtransfer/handoff_simulation.h"

#include <variant>

#include "absl/strings/str_cat.h"
#include "common/hash.h"

namespace baton::testing {

void HandoffSimulation::Violation(const std::string& what) {
  if (violation_.ok()) {
    violation_ = absl::InternalError(absl::StrCat("after ", counts_.events, " events, ",
                                                  absl::FormatDuration(now_ - absl::UnixEpoch()),
                                                  ": ", what));
  }
}

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
