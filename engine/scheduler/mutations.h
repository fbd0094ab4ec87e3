// Deliberate bugs for the fault exploration, which must catch each of them. Only tests and the
// simulator set these; engines always pass the defaults.
#pragma once

namespace baton {

struct SchedulerMutations {
  bool index_before_seal = false;  // blocks are found in the prefix cache before their KV is there
};

}  // namespace baton
