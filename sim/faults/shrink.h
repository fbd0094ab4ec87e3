// Makes a failing schedule short enough to read.
#pragma once

#include "sim/faults/mutations.h"
#include "sim/faults/schedule.h"

namespace baton::sim {

// Takes out requests, faults and workers, and halves what is left, as long as some invariant still
// breaks. Deterministic. REQUIRES: the schedule fails.
Schedule Shrink(Schedule schedule, const Mutations& mutations);

}  // namespace baton::sim
