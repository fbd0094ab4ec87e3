// Who may use which KV block: the states of invariant H1 and the reference counts.
//
// Pure bookkeeping: no memory is touched here. Not thread-safe: one step loop owns it.
//
//   from        to          by
//   FREE        RESERVED    Allocate
//   RESERVED    LANDING     StartLanding: a peer may write to it from now on
//   RESERVED    IN_USE      StartUse: the engine computes its KV itself
//   RESERVED    FREE        last reference dropped
//   LANDING     SEALED      Seal: all bytes landed and verified
//   LANDING     QUARANTINE  last reference dropped: a peer may still write to it
//   QUARANTINE  FREE        EndQuarantine: nobody can write to it any more (H2)
//   SEALED      IN_USE      StartUse: it joined the batch; or its last reference is dropped
//   IN_USE      CACHED      last reference dropped, and the prefix index knows it
//   IN_USE      FREE        last reference dropped
//   CACHED      IN_USE      Share: a prefix hit
//   CACHED      FREE        Evict
//
// Every other transition is a bug and aborts the process with the block and both states.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "engine/kv/free_runs.h"

namespace baton {

enum class BlockState : uint8_t {
  kFree,
  kReserved,
  kLanding,
  kSealed,
  kInUse,
  kCached,
  kQuarantine
};
inline constexpr int kNumBlockStates = 7;
std::string_view BlockStateName(BlockState state);  // "FREE"
bool IsLegalTransition(BlockState from, BlockState to);

class BlockPool;

// One reference to one block; dropping it returns the block by the table above. Must not outlive
// its pool. Empty when default-constructed or moved from.
class BlockRef {
 public:
  BlockRef() = default;
  BlockRef(BlockRef&& other) noexcept : pool_(other.pool_), block_(other.block_) {
    other.pool_ = nullptr;
  }
  BlockRef& operator=(BlockRef&& other) noexcept;
  BlockRef(const BlockRef&) = delete;
  BlockRef& operator=(const BlockRef&) = delete;
  ~BlockRef() { Reset(); }

  explicit operator bool() const { return pool_ != nullptr; }
  BlockId id() const { return block_; }
  void Reset();

 private:
  friend class BlockPool;
  BlockRef(BlockPool* pool, BlockId block) : pool_(pool), block_(block) {}

  BlockPool* pool_ = nullptr;
  BlockId block_;
};

class BlockPool {
 public:
  explicit BlockPool(int32_t num_blocks);
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  int32_t num_blocks() const { return static_cast<int32_t>(blocks_.size()); }
  int32_t Count(BlockState state) const { return counts_[static_cast<size_t>(state)]; }
  BlockState State(BlockId block) const { return At(block).state; }
  int32_t References(BlockId block) const { return At(block).references; }
  const FreeRuns& free_runs() const { return free_; }

  // `count` blocks in state RESERVED, appended to `out` in runs as long as there are; `preferred`
  // (or BlockId(-1)) is taken first when free. REQUIRES: count <= Count(kFree).
  void Allocate(int32_t count, BlockId preferred, std::vector<BlockRef>* out);
  // One more reference; a CACHED block becomes IN_USE. REQUIRES: IN_USE, CACHED or SEALED.
  BlockRef Share(BlockId block);

  void StartLanding(BlockId block) { Move(block, BlockState::kLanding); }
  void Seal(BlockId block) { Move(block, BlockState::kSealed); }
  // REQUIRES: RESERVED or SEALED.
  void StartUse(BlockId block);
  void EndQuarantine(BlockId block);

  // Whether the last reference leaves the block CACHED. REQUIRES: IN_USE or SEALED.
  void SetIndexed(BlockId block, bool indexed);
  bool indexed(BlockId block) const { return At(block).indexed; }
  // The CACHED block whose last reference was dropped longest ago, or BlockId(-1).
  BlockId OldestCached() const { return BlockId(lru_head_); }
  // CACHED → FREE.
  void Evict(BlockId block);

  // H1 and the reference counts, recomputed from scratch.
  void CheckInvariants() const;

 private:
  friend class BlockRef;
  struct Block {
    BlockState state = BlockState::kFree;
    bool indexed = false;
    int32_t references = 0;
    int32_t lru_previous = -1;
    int32_t lru_next = -1;
  };

  const Block& At(BlockId block) const;
  Block& At(BlockId block);
  void Move(BlockId block, BlockState to);
  void Drop(BlockId block);
  void LruAppend(int32_t block);
  void LruRemove(int32_t block);

  std::vector<Block> blocks_;  // [num_blocks]
  int32_t counts_[kNumBlockStates] = {};
  FreeRuns free_;
  int32_t lru_head_ = -1;  // oldest
  int32_t lru_tail_ = -1;
  std::vector<int32_t> taken_;  // scratch of Allocate
};

}  // namespace baton
