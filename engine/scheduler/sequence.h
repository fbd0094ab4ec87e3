// What the scheduler knows of one sequence and of its branches. Plain state: the rules are in
// planner.h, commit.h, handoff.h and ending.h.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "absl/time/time.h"
#include "common/ids.h"
#include "common/request.h"
#include "engine/kv/block_pool.h"
#include "engine/kv/prefix_cache.h"
#include "engine/scheduler/scheduler.h"

namespace baton {

// One sample of a sequence; before the prompt is done, branch 0 stands for all of them.
//
//   from      to        when
//   –         WAITING   Add
//   –         LANDING   Reserve
//   –         DECODE    fork: another branch of the sequence has its first token
//   WAITING   PREFILL   admitted: it holds the blocks of all its tokens
//   PREFILL   DECODE    its last chunk gave a token
//   PREFILL   HELD      the same, kPrefillOnly: pinned until Release
//   PREFILL   WAITING   preempted
//   DECODE    WAITING   preempted: it will compute its prompt and its outputs again
//   LANDING   DECODE    Seal
//   any       FINISHED  finish rule, AbortBranch
//
// An aborted sequence is forgotten as a whole, except that kPrefillOnly blocks which are still
// being sent stay behind as HELD.
enum class BranchPhase : uint8_t { kWaiting, kPrefill, kDecode, kLanding, kHeld, kFinished };
inline constexpr int kNumBranchPhases = 6;
bool IsLegalTransition(BranchPhase from, BranchPhase to);

// The blocks of a branch in logical order; dropping them returns them, last first, so that leaves
// are evicted before the prefixes that they build on.
class BlockTable {
 public:
  BlockTable() = default;
  BlockTable(BlockTable&&) = default;
  BlockTable& operator=(BlockTable&&) = default;
  ~BlockTable() { Clear(); }

  void Append(BlockRef block) {
    ids_.push_back(block.id());
    refs_.push_back(std::move(block));
  }
  // Returns the reference that logical block `index` held until now.
  BlockRef Replace(int32_t index, BlockRef block);
  // Drops the logical blocks from `size` on.
  void Truncate(int32_t size);
  void Clear() { Truncate(0); }
  int32_t size() const { return static_cast<int32_t>(ids_.size()); }
  BlockId back() const { return ids_.empty() ? BlockId(-1) : ids_.back(); }
  std::span<const BlockId> ids() const { return ids_; }

 private:
  std::vector<BlockRef> refs_;
  std::vector<BlockId> ids_;  // of refs_: what a forward pass reads
};

struct Branch {
  int32_t sample = 0;
  BranchPhase phase = BranchPhase::kWaiting;
  std::vector<TokenId> tokens;  // prompt, then outputs
  // KV of tokens [0, computed_tokens) is final. In DECODE all but the last token.
  int32_t computed_tokens = 0;
  BlockTable blocks;
  PrefixProgress indexed;
  bool joined = false;           // has had a decode row
  double ready_ms = 0;           // SchedulerState::elapsed_ms when it could have joined
  int32_t planned_rows = 0;      // that it has in plans which are not committed
  bool abort_at_commit = false;  // AbortBranch came while planned

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  void MoveTo(BranchPhase to);  // aborts on an illegal transition
};

struct Sequence {
  SequenceId id;
  GenerationSpec spec;
  SequenceMode mode = SequenceMode::kGenerate;
  SequenceObjective objective;
  absl::Time order;              // prompts are computed in this order, equal ones in that of age
  double added_ms = 0;           // SchedulerState::elapsed_ms when it came
  std::vector<Branch> branches;  // one until the fork; capacity num_samples, so they never move
  bool forked = false;
  bool admitted_before = false;
  int32_t cached_tokens = 0;
  int32_t expected_cached_tokens = 0;  // that the prefix cache had when it came
  // Prompt logprobs are given for positions [1, prompt_logits_from]; the next logits row to be
  // computed for them is that of this token.
  int32_t prompt_logits_from = 0;
  std::set<int32_t> aborted_samples;  // by AbortBranch before the fork

  // What came while a step with one of its rows was running; carried out at the Commit of the last.
  int32_t planned_rows = 0;  // of all branches
  bool abort_at_commit = false;
  bool keep_pinned = false;
  bool release_at_commit = false;
  bool fail_at_commit = false;  // kv_exhausted

  // Handoff, decode side.
  int32_t first_landing_block = 0;  // logical
  bool landing_released = false;

  int32_t open_branches() const;
  Branch& At(int32_t branch) { return branches[static_cast<size_t>(branch)]; }
  bool landing() const { return branches[0].phase == BranchPhase::kLanding; }
  bool held() const { return branches[0].phase == BranchPhase::kHeld; }
  int32_t samples_at_fork() const { return forked ? 1 : spec.num_samples; }
};

// It computes again what its client has seen in part: the stream stands still meanwhile.
inline bool IsMidStream(const Sequence& sequence, const Branch& branch) {
  return branch.num_tokens() > sequence.spec.prompt_length;
}

// Age order: older first. How prompts are ordered: see WaitKey.
struct BranchKey {
  SequenceId sequence;
  int32_t branch = 0;
  friend constexpr auto operator<=>(const BranchKey&, const BranchKey&) = default;
};

// The order in which prompts are computed.
struct WaitKey {
  absl::Time order;
  BranchKey branch;
  friend auto operator<=>(const WaitKey& a, const WaitKey& b) {
    if (a.order != b.order)
      return a.order < b.order ? std::strong_ordering::less : std::strong_ordering::greater;
    return a.branch <=> b.branch;
  }
  friend bool operator==(const WaitKey&, const WaitKey&) = default;
};

// Those who ran before and were preempted come first: clients are reading their streams.
inline WaitKey WaitKeyOf(const Sequence& sequence, int32_t branch) {
  return {.order = sequence.admitted_before ? absl::InfinitePast() : sequence.order,
          .branch = {sequence.id, branch}};
}

}  // namespace baton
