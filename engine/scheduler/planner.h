// Chooses the rows of the next step.
//
// 1. Decode rows, oldest first. A row that needs a block and finds none preempts the youngest
//    branch; a branch that is itself the youngest waits, or fails when the whole pool would not do.
// 2. Prefill chunks of sequences that have started, oldest first.
// 3. Waiting branches in order of age, until one does not fit: nothing overtakes it.
#pragma once

#include "engine/scheduler/state.h"

namespace baton {

// Fills state->plan. REQUIRES: no step is planned.
void BuildPlan(SchedulerState* state);

}  // namespace baton
