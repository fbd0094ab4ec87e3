// All that the scheduler knows, and the few operations on it that every rule needs.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "engine/kv/prefix_cache.h"
#include "engine/scheduler/scheduler.h"
#include "engine/scheduler/sequence.h"

namespace baton {

struct SchedulerState {
  explicit SchedulerState(const SchedulerOptions& scheduler_options)
      : options(scheduler_options), cache(options.num_blocks, options.block_size) {}

  const SchedulerOptions options;
  PrefixCache cache;  // before the sequences: they return their blocks to it

  absl::flat_hash_map<SequenceId, std::unique_ptr<Sequence>> sequences;
  uint64_t next_id = 1;
  // A branch is in at most one of the two: in `waiting` in phase WAITING, the next one first; in
  // `running` in PREFILL and DECODE, the oldest first.
  absl::btree_map<WaitKey, Sequence*> waiting;
  absl::btree_map<BranchKey, Sequence*> running;
  int32_t unstarted = 0;         // waiting sequences that never ran
  int32_t landing_branches = 0;  // samples of reservations that are not sealed yet
  // Blocks of aborted reservations that a peer may still write to.
  absl::flat_hash_map<SequenceId, std::vector<BlockId>> quarantine;
  std::vector<SequenceId> sealed;     // since the last Plan: their blocks are not yet IN_USE
  std::vector<SequenceEvent> events;  // not yet given to the caller

  const StepModelTracker* step_model = nullptr;  // not owned; null: steps are not predicted
  double elapsed_ms = 0;                         // predicted, of all steps so far

  StepPlan plan;
  bool planned = false;  // between Plan and Commit
  // The plan was made by BuildPlanAhead, and Plan has not given it to the caller yet.
  bool planned_ahead = false;
  StepPlan ahead;         // of the step after `plan`; empty: there is none
  TokenId not_drawn = 0;  // in the place of tokens that its rows have
  // Blocks of branches that ended and have a row in it.
  std::vector<BlockTable> left_ahead;
  // Scratch of the planner: what was running when it began.
  std::vector<std::pair<BranchKey, Sequence*>> started;
  // Sources of the plan's block copies: nobody may get them before the copies are done.
  std::vector<BlockRef> copy_sources;

  uint64_t preemptions = 0;
  uint64_t prefix_query_tokens = 0;
  uint64_t prefix_hit_tokens = 0;

  Sequence* Find(SequenceId id);
  // Of a row of an open step; null: the row was planned ahead, and its branch has ended since.
  Sequence* SequenceOf(const StepPlan::Row& row);
  Sequence* NewSequence(GenerationSpec spec, SequenceMode mode, BranchPhase phase);
  // Branches that decode or will: each may ask for one more block at any step.
  int32_t GrowingBranches() const;
  StepShape WorkAtHand() const;
  void CountStep(const StepPlan& step);  // in elapsed_ms
  template <typename What>
  void Emit(SequenceId sequence, What what) {
    events.push_back(SequenceEvent{.sequence = sequence, .what = std::move(what)});
  }
};

}  // namespace baton
