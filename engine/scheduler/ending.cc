#include "engine/scheduler/ending.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/kv_layout.h"

namespace baton {

namespace {

// Takes the branch out of whichever queue it is in.
void Unqueue(SchedulerState* state, Sequence* sequence, BranchKey key) {
  state->running.erase(key);
  if (state->waiting.erase(WaitKeyOf(*sequence, key.branch)) > 0 && !sequence->admitted_before)
    --state->unstarted;
}

// The step that was planned ahead reads the branch's blocks and writes one more token: until it is
// committed, nobody else may get them.
void LeaveRowAhead(SchedulerState* state, Sequence* sequence, int32_t index) {
  Branch& branch = sequence->At(index);
  const auto row = std::ranges::find_if(state->ahead.rows, [&](const StepPlan::Row& planned) {
    return planned.sequence == sequence->id && planned.branch == index;
  });
  BATON_CHECK(row != state->ahead.rows.end() && branch.planned_rows == 1)
      << "sequence " << sequence->id << " ends with " << branch.planned_rows << " planned rows";
  row->block_table = {};
  sequence->planned_rows -= std::exchange(branch.planned_rows, 0);
  state->left_ahead.push_back(std::move(branch.blocks));
}

}  // namespace

void Preempt(SchedulerState* state, BranchKey key) {
  const auto found = state->running.find(key);
  BATON_CHECK(found != state->running.end()) << "sequence " << key.sequence << " is not running";
  Sequence* sequence = found->second;
  Branch& branch = sequence->At(key.branch);
  BATON_CHECK(branch.planned_rows == 0) << "sequence " << key.sequence << " has a row in the plan";
  state->running.erase(found);
  branch.MoveTo(BranchPhase::kWaiting);
  branch.blocks.Clear();
  branch.computed_tokens = 0;
  branch.indexed = {};
  state->waiting.emplace(WaitKeyOf(*sequence, key.branch), sequence);
  ++state->preemptions;
}

void EndBranch(SchedulerState* state, Sequence* sequence, int32_t index) {
  Unqueue(state, sequence, {sequence->id, index});
  Branch& branch = sequence->At(index);
  if (branch.planned_rows > 0) LeaveRowAhead(state, sequence, index);
  branch.MoveTo(BranchPhase::kFinished);
  branch.blocks.Clear();
  if (sequence->open_branches() > 0) return;
  state->Emit(sequence->id, SequenceEvent::Done{.cached_tokens = sequence->cached_tokens});
  Forget(state, sequence);
}

void FailExhausted(SchedulerState* state, Sequence* sequence) {
  if (sequence->planned_rows > 0) {
    sequence->fail_at_commit = true;
    return;
  }
  int32_t longest = 0;
  for (const Branch& branch : sequence->branches) longest = std::max(longest, branch.num_tokens());
  state->Emit(sequence->id, SequenceEvent::Failed{absl::ResourceExhaustedError(absl::StrCat(
                                "kv_exhausted: ", longest, " tokens need ",
                                BlocksForTokens(longest, state->options.block_size),
                                " KV blocks, the pool has ", state->options.num_blocks))});
  Forget(state, sequence);
}

void EndAborted(SchedulerState* state, Sequence* sequence, bool keep_pinned) {
  Branch& trunk = sequence->branches[0];
  if (keep_pinned && sequence->mode == SequenceMode::kPrefillOnly && trunk.blocks.size() > 0) {
    if (trunk.phase == BranchPhase::kPrefill) {
      state->running.erase({sequence->id, 0});
      trunk.MoveTo(BranchPhase::kHeld);
    }
    return;
  }
  if (sequence->landing()) {
    std::vector<BlockId> landing;
    for (int32_t i = sequence->first_landing_block; i < trunk.blocks.size(); ++i) {
      landing.push_back(trunk.blocks.ids()[static_cast<size_t>(i)]);
    }
    trunk.blocks.Clear();  // LANDING → QUARANTINE
    if (sequence->landing_released) {
      for (const BlockId block : landing) state->cache.pool().EndQuarantine(block);
    } else if (!landing.empty()) {
      state->quarantine.emplace(sequence->id, std::move(landing));
    }
  }
  Forget(state, sequence);
}

void Forget(SchedulerState* state, Sequence* sequence) {
  if (sequence->landing()) state->landing_branches -= sequence->spec.num_samples;
  for (size_t i = 0; i < sequence->branches.size(); ++i) {
    Unqueue(state, sequence, {sequence->id, static_cast<int32_t>(i)});
  }
  state->sequences.erase(sequence->id);
}

void DropEvents(SchedulerState* state, SequenceId id) {
  std::erase_if(state->events, [&](const SequenceEvent& event) { return event.sequence == id; });
}

void DropBranchFinished(SchedulerState* state, SequenceId id, int32_t sample) {
  std::erase_if(state->events, [&](const SequenceEvent& event) {
    const auto* finished = std::get_if<SequenceEvent::BranchFinished>(&event.what);
    return event.sequence == id && finished != nullptr && finished->finish.sample == sample;
  });
}

}  // namespace baton
