#include "engine/kv/block_pool.h"

#include "common/check.h"

namespace baton {

std::string_view BlockStateName(BlockState state) {
  static constexpr std::string_view kNames[kNumBlockStates] = {
      "FREE", "RESERVED", "LANDING", "SEALED", "IN_USE", "CACHED", "QUARANTINE"};
  return kNames[static_cast<size_t>(state)];
}

bool IsLegalTransition(BlockState from, BlockState to) {
  switch (from) {
    case BlockState::kFree:
      return to == BlockState::kReserved;
    case BlockState::kReserved:
      return to == BlockState::kLanding || to == BlockState::kInUse || to == BlockState::kFree;
    case BlockState::kLanding:
      return to == BlockState::kSealed || to == BlockState::kQuarantine;
    case BlockState::kSealed:
      return to == BlockState::kInUse;
    case BlockState::kInUse:
      return to == BlockState::kCached || to == BlockState::kFree;
    case BlockState::kCached:
      return to == BlockState::kInUse || to == BlockState::kFree;
    case BlockState::kQuarantine:
      return to == BlockState::kFree;
  }
  return false;
}

BlockRef& BlockRef::operator=(BlockRef&& other) noexcept {
  if (this == &other) return *this;
  Reset();
  pool_ = other.pool_;
  block_ = other.block_;
  other.pool_ = nullptr;
  return *this;
}

void BlockRef::Reset() {
  if (pool_ == nullptr) return;
  BlockPool* pool = pool_;
  pool_ = nullptr;
  pool->Drop(block_);
}

BlockPool::BlockPool(int32_t num_blocks)
    : blocks_(static_cast<size_t>(num_blocks)), free_(num_blocks) {
  counts_[static_cast<size_t>(BlockState::kFree)] = num_blocks;
}

BlockPool::~BlockPool() {
  for (const Block& block : blocks_) {
    BATON_CHECK(block.references == 0) << "a block reference outlives its pool";
  }
}

void BlockPool::Allocate(int32_t count, BlockId preferred, std::vector<BlockRef>* out) {
  taken_.clear();
  free_.Take(count, preferred.value(), &taken_);
  for (const int32_t index : taken_) {
    const BlockId block(index);
    Move(block, BlockState::kReserved);
    At(block).references = 1;
    out->push_back(BlockRef(this, block));
  }
}

BlockRef BlockPool::Share(BlockId id) {
  Block& block = At(id);
  if (block.state == BlockState::kCached) {
    LruRemove(id.value());
    Move(id, BlockState::kInUse);
  }
  BATON_CHECK(block.state == BlockState::kInUse || block.state == BlockState::kSealed)
      << "block " << id << " cannot be shared in state " << BlockStateName(block.state);
  ++block.references;
  return BlockRef(this, id);
}

void BlockPool::StartUse(BlockId block) {
  BATON_CHECK(State(block) != BlockState::kCached) << "block " << block << " is only for Share";
  Move(block, BlockState::kInUse);
}

void BlockPool::EndQuarantine(BlockId block) {
  BATON_CHECK(State(block) == BlockState::kQuarantine)
      << "H2: block " << block << " in state " << BlockStateName(State(block));
  Move(block, BlockState::kFree);
  free_.Put(block.value());
}

void BlockPool::SetIndexed(BlockId id, bool indexed) {
  Block& block = At(id);
  BATON_CHECK(block.state == BlockState::kInUse || block.state == BlockState::kSealed)
      << "block " << id << " in state " << BlockStateName(block.state);
  block.indexed = indexed;
}

void BlockPool::Evict(BlockId block) {
  BATON_CHECK(State(block) == BlockState::kCached)
      << "block " << block << " evicted in state " << BlockStateName(State(block));
  LruRemove(block.value());
  At(block).indexed = false;
  Move(block, BlockState::kFree);
  free_.Put(block.value());
}

void BlockPool::CheckInvariants() const {
  int32_t counts[kNumBlockStates] = {};
  for (int32_t i = 0; i < num_blocks(); ++i) {
    const Block& block = At(BlockId(i));
    ++counts[static_cast<size_t>(block.state)];
    const bool unreferenced = block.state == BlockState::kFree ||
                              block.state == BlockState::kCached ||
                              block.state == BlockState::kQuarantine;
    BATON_CHECK(unreferenced == (block.references == 0))
        << "H1: block " << i << " is " << BlockStateName(block.state) << " with "
        << block.references << " references";
    BATON_CHECK((block.state == BlockState::kFree) == free_.Contains(i))
        << "H1: block " << i << " is " << BlockStateName(block.state)
        << " but the free runs disagree";
    BATON_CHECK(block.state != BlockState::kCached || block.indexed)
        << "H1: block " << i << " is CACHED but not indexed";
  }
  for (int s = 0; s < kNumBlockStates; ++s) {
    BATON_CHECK(counts[s] == counts_[s])
        << "H1: " << counts[s] << " blocks " << BlockStateName(static_cast<BlockState>(s))
        << ", counted " << counts_[s];
  }
  int32_t in_lru = 0;
  for (int32_t i = lru_head_; i >= 0; i = At(BlockId(i)).lru_next) {
    BATON_CHECK(State(BlockId(i)) == BlockState::kCached) << "block " << i << " in the LRU list";
    BATON_CHECK(++in_lru <= num_blocks()) << "the LRU list has a cycle";
  }
  BATON_CHECK(in_lru == Count(BlockState::kCached)) << in_lru << " blocks in the LRU list";
  free_.CheckInvariants();
}

const BlockPool::Block& BlockPool::At(BlockId block) const {
  BATON_CHECK(block.value() >= 0 && block.value() < num_blocks())
      << "block " << block << " of " << num_blocks();
  return blocks_[static_cast<size_t>(block.value())];
}

BlockPool::Block& BlockPool::At(BlockId block) {
  return const_cast<Block&>(static_cast<const BlockPool*>(this)->At(block));
}

void BlockPool::Move(BlockId id, BlockState to) {
  Block& block = At(id);
  BATON_CHECK(IsLegalTransition(block.state, to))
      << "H1: block " << id << " from " << BlockStateName(block.state) << " to "
      << BlockStateName(to);
  --counts_[static_cast<size_t>(block.state)];
  ++counts_[static_cast<size_t>(to)];
  block.state = to;
}

void BlockPool::Drop(BlockId id) {
  Block& block = At(id);
  BATON_CHECK(block.references > 0) << "block " << id << " dropped too often";
  if (--block.references > 0) return;
  if (block.state == BlockState::kLanding) {
    Move(id, BlockState::kQuarantine);
    return;
  }
  if (block.state == BlockState::kSealed) Move(id, BlockState::kInUse);
  if (block.indexed) {
    Move(id, BlockState::kCached);
    LruAppend(id.value());
    return;
  }
  Move(id, BlockState::kFree);
  free_.Put(id.value());
}

void BlockPool::LruAppend(int32_t index) {
  Block& block = At(BlockId(index));
  block.lru_previous = lru_tail_;
  block.lru_next = -1;
  (lru_tail_ >= 0 ? At(BlockId(lru_tail_)).lru_next : lru_head_) = index;
  lru_tail_ = index;
}

void BlockPool::LruRemove(int32_t index) {
  Block& block = At(BlockId(index));
  (block.lru_previous >= 0 ? At(BlockId(block.lru_previous)).lru_next : lru_head_) = block.lru_next;
  (block.lru_next >= 0 ? At(BlockId(block.lru_next)).lru_previous : lru_tail_) = block.lru_previous;
  block.lru_previous = block.lru_next = -1;
}

}  // namespace baton
