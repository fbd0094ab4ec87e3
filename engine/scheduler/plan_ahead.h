// Plans the step after one that decodes before its tokens are known: the contract is
// Scheduler::PlanAhead's.
#pragma once

#include "engine/scheduler/state.h"

namespace baton {

// Fills state->ahead, or leaves it empty. REQUIRES: a step is planned, and none ahead of it.
void BuildPlanAhead(SchedulerState* state);

}  // namespace baton
