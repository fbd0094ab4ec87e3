// What must hold between any two calls of a scheduler.
#pragma once

#include "engine/scheduler/state.h"

namespace baton {

// Aborts the process naming the invariant that does not hold. O(blocks + tokens' blocks).
void CheckSchedulerInvariants(const SchedulerState& state);

}  // namespace baton
