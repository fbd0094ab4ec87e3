// Deliberate bugs in the cores, one switch each: patterns that serving systems have shipped. The
// exploration must catch every one, or it proves nothing of those that nobody thought of.
#pragma once

#include <string_view>
#include <vector>

#include "engine/scheduler/mutations.h"
#include "kvtransfer/core/mutations.h"
#include "router/core/mutations.h"
#include "worker/mutations.h"

namespace baton::sim {

struct Mutations {
  HandoffMutations handoff;
  router::RouterMutations router;
  WorkerMutations worker;
  SchedulerMutations scheduler;
};

struct Mutant {
  std::string_view name;
  std::string_view pattern;  // what it was in the field
  Mutations mutations;
};

const std::vector<Mutant>& Mutants();

}  // namespace baton::sim
