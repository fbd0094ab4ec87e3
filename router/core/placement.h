// Where a request runs, and how that will go: a pure function of the cluster view, the prefix index
// and the measured links.
//
// Bounded: looks at the few least loaded workers of each side and at a few that hold the longest
// prefix of the prompt, never at all workers. Of these it takes the pair with the least predicted
// time to the last token (start, prefill less what is cached, the part of the transfer that prefill
// does not hide, decode steps in the batch as it will be), where each objective that would be
// missed, the request's own or a neighbour's, outweighs any time. A pair whose handoffs fail
// (pair_ejection.h) comes after all others, and not before another one that is only busy.
//
// Paths: a handoff from a prefill to a decode worker; in place on a decode worker, where that is
// safe (see InPlace in placement.cc) and quicker; colocated on a worker of role both, while no
// pair of the other two is up.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "router/core/cluster_view.h"
#include "router/core/link_costs.h"
#include "router/core/pair_ejection.h"
#include "router/core/prefix_index.h"
#include "router/core/slo.h"
#include "router/core/work_ledger.h"

namespace baton::router {

struct PlacementQuery {
  absl::Time now;
  int64_t tokens = 0;  // of the prompt, and of output that a resumed attempt brings
  int32_t samples = 1;
  double expected_output = 16;  // tokens of one sample
  Objective objective;
  const PrefixHashes* prefix = nullptr;  // null: none
  // Until then it rather waits than makes neighbours miss their TPOT.
  absl::Time hold_until = absl::InfinitePast();
  std::span<const WorkerIndex> never;  // said that the request can never fit
  std::span<const WorkerIndex> avoid;  // lost an earlier attempt: only if nothing else is there
};

// Views: valid during the call.
struct PlacementParts {
  const ClusterView& cluster;
  const std::array<PrefixIndex, 3>& prefixes;  // by role
  const LinkCosts& links;
  const PairEjection& pairs;
  bool in_place_on_decode = true;
  double in_place_share = 0;  // of what is dispatched of late, in prefill time
  double wait_factor = 1;     // see WaitError
};

struct Placement {
  WorkerIndex prefill = kNoWorker;
  WorkerIndex decode = kNoWorker;  // equal to prefill: generate in place
  Path path = Path::kHandoff;
  bool known = false;     // the times below are predictions, not only ranks
  double prefill_ms = 0;  // of the worker's time
  double start_ms = 0;    // from now, until it could decode
  double ttft_ms = 0;     // from now
  double step_ms = 0;     // of the batch with this request in it
  bool in_place() const { return prefill == decode; }
};

struct PlacementAnswer {
  std::optional<Placement> placement;  // empty: nothing should start now
  // Then ask again at this time, even if nothing happens until then.
  absl::Time try_again = absl::InfiniteFuture();
};
PlacementAnswer ChoosePlacement(const PlacementParts& parts, const PlacementQuery& query);

// Whether any accepting worker is left that has not said "never".
bool CouldEverFit(const ClusterView& cluster, std::span<const WorkerIndex> never);

// How a request would fare that comes now and goes after `ahead`.
struct Forecast {
  bool known = false;        // else nothing below is
  double floor_ttft_ms = 0;  // on an idle cluster of these workers
  double floor_tpot_ms = 0;
  double ttft_ms = 0;         // on the best pair, from now
  double tpot_ms = 0;         // at the time when it would start to decode
  double wait_ms = 0;         // in the queue, before correction: what WaitError learns from
  double start_ms = 0;        // from now, until a worker could start what is first in the queue
  double ms_per_ms = 0;       // how long a millisecond of queued prefill keeps the queue
  double tpot_relief_ms = 0;  // until so many rows have ended that its TPOT objective can be met
};
Forecast MakeForecast(const PlacementParts& parts, const PlacementQuery& query,
                      const QueuedWork& ahead);

}  // namespace baton::router
