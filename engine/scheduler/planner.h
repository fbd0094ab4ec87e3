// Chooses the rows of the next step.
//
// 1. Decode rows, oldest first. A new row joins when the predicted step stays under the TPOT
//    objectives of the others (pace.h). A row that needs a block and finds none preempts a younger
//    branch, the cheapest; one that has no younger waits, or fails when the whole pool would not
//    do.
// 2. Prompts in the order in which they are due, started or not, in chunks: as many tokens as the
//    budget and the objectives of the decode rows leave room for. What waits starts when it finds
//    blocks; if the next does not, none behind it does. A prompt whose beginning another one is
//    computing may wait for it, and holds up nobody.
//
// With Chunking::kOff whole prompts come first, and decode rows run in the steps that have none.
#pragma once

#include "engine/scheduler/state.h"

namespace baton {

// Fills state->plan. REQUIRES: no step is planned.
void BuildPlan(SchedulerState* state);

}  // namespace baton
