// Applies what a step computed: KV that is now final, drawn tokens, and whatever was asked while
// the step ran.
#pragma once

#include <span>
#include <vector>

#include "engine/scheduler/state.h"

namespace baton {

// Ends the planned step. `sampled[i]`: [plan.rows[i].num_samples].
void ApplyStep(SchedulerState* state, std::span<const std::vector<SampledToken>> sampled);

}  // namespace baton
