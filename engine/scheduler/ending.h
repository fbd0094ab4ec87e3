// How branches and sequences leave: finished, aborted, failed, or only preempted.
#pragma once

#include "engine/scheduler/state.h"

namespace baton {

// PREFILL or DECODE → WAITING: gives the blocks back; everything will be computed again.
void Preempt(SchedulerState* state, BranchKey key);

// Ends one branch without an event of its own; with the last one the sequence is Done and gone.
void EndBranch(SchedulerState* state, Sequence* sequence, int32_t branch);

// kv_exhausted: emits Failed and forgets the sequence, at Commit if it has rows in the plan.
void FailExhausted(SchedulerState* state, Sequence* sequence);

// Ends everything at once without events; pinned or landing blocks stay behind as promised in
// scheduler.h. REQUIRES: no rows in the plan.
void EndAborted(SchedulerState* state, Sequence* sequence, bool keep_pinned);

// Forgets the sequence; its blocks return.
void Forget(SchedulerState* state, Sequence* sequence);

// Takes back the events that were not handed out yet.
void DropEvents(SchedulerState* state, SequenceId sequence);
void DropBranchFinished(SchedulerState* state, SequenceId sequence, int32_t sample);

}  // namespace baton
