#include "router/core/placement.h"

#include <cmath>
#include <limits>

#include "router/core/placement_candidates.h"
#include "router/core/predictor.h"

namespace baton::router {
namespace {

// In milliseconds, each above any sum of those before it.
constexpr double kMiss = 1e7;    // of an objective
constexpr double kNoRoom = 1e9;  // by its last report
constexpr double kPairOut = 1e10;
constexpr double kAvoid = 1e11;

// Of its prefill time: what a prompt in place costs the rows of a decode worker, so that it needs a
// reason to be there.
constexpr double kInPlaceToll = 0.1;
// Rows that are not placed yet will take their part of a decode worker meanwhile: assumed.
constexpr double kTimeInHand = 1.25;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double WaitMs(const WorkerState& worker, absl::Time now) {
  return std::max(0.0, absl::ToDoubleMilliseconds(worker.prefill.free_at() - now));
}

// When a worker takes one more prompt: one that already has as much as it computes in one step gets
// no more, since the queue decides later, and better.
absl::Time ReadyAt(const WorkerState& worker) {
  if (!worker.known()) return absl::InfinitePast();  // its credits alone decide
  return worker.prefill.free_at() -
         absl::Milliseconds(std::clamp(FullPrefillStepMs(worker), 20.0, 1000.0));
}

struct PrefillSide {
  WorkerIndex worker = kNoWorker;
  double prefill_ms = 0;
  double ttft_ms = 0;  // from now
};

struct DecodeSide {
  WorkerIndex worker = kNoWorker;
  int64_t missing = 0;  // tokens that it does not hold
  DecodeOutlook outlook;
  double step_ms = 0;
  bool harms = false;
  double cost = 0;
};

PrefillSide LookAtPrefill(const PlacementParts& parts, const PlacementQuery& query,
                          WorkerIndex index) {
  const WorkerState& worker = parts.cluster.worker(index);
  PrefillSide side{.worker = index};
  side.prefill_ms = PrefillMs(worker, query.tokens, CachedTokens(parts, index, query));
  side.ttft_ms = WaitMs(worker, query.now) + side.prefill_ms;
  return side;
}

// `start`: when it would begin to decode there.
DecodeSide LookAtDecode(const PlacementParts& parts, const PlacementQuery& query, WorkerIndex index,
                        absl::Time start) {
  const WorkerState& worker = parts.cluster.worker(index);
  DecodeSide side{.worker = index};
  side.missing = query.tokens - CachedTokens(parts, index, query);
  side.outlook = DecodeAt(worker, query.now, start);
  side.step_ms = StepMsWith(worker, side.outlook, query.samples,
                            static_cast<double>(query.samples * query.tokens));
  // In a full batch it would take the place of a neighbour's step, or wait for one.
  const bool batch_full = worker.info.max_batch_sequences > 0 &&
                          side.outlook.rows + query.samples > worker.info.max_batch_sequences;
  side.harms = worker.known() && (batch_full || side.step_ms > side.outlook.tightest_ms);
  const double total_blocks = std::max(1, worker.info.total_blocks);
  const double share_in_use = 1.0 - worker.report.available_blocks() / total_blocks;
  // Full blocks mean preemptions soon; how soon is not known, so it only breaks near ties.
  side.cost = query.expected_output * side.step_ms * (1 + 0.1 * share_in_use);
  if (side.harms) side.cost += kMiss;
  if (worker.known() && side.step_ms > query.objective.tpot_ms) side.cost += kMiss;
  if (side.missing > int64_t{1} * worker.report.available_blocks() * worker.info.block_size) {
    side.cost += kNoRoom;
  }
  if (Contains(query.avoid, index)) side.cost += kAvoid;
  return side;
}

double TtftCost(const PlacementQuery& query, WorkerIndex worker, double ttft_ms, bool known) {
  double cost = ttft_ms;
  if (known && ttft_ms > query.objective.ttft_left_ms) cost += kMiss;
  if (Contains(query.avoid, worker)) cost += kAvoid;
  return cost;
}

LinkPair PairOf(const ClusterView& cluster, WorkerIndex prefill, WorkerIndex decode) {
  const std::string& from = cluster.worker(prefill).info.kv.machine_id;
  const std::string& to = cluster.worker(decode).info.kv.machine_id;
  return {prefill, decode, !from.empty() && from == to};
}

struct Option {
  Placement placement;
  double cost = kInfinity;
  bool harms = false;
  bool pair_out = false;
};

// Prefill and decode of one request on one worker.
Option OnOneWorker(const PlacementParts& parts, const PlacementQuery& query, WorkerIndex index,
                   Path path, double ttft_ms) {
  const WorkerState& worker = parts.cluster.worker(index);
  const DecodeSide decode =
      LookAtDecode(parts, query, index, query.now + absl::Milliseconds(ttft_ms));
  return {.placement = {.prefill = index,
                        .decode = index,
                        .path = path,
                        .known = worker.known(),
                        .prefill_ms =
                            PrefillMs(worker, query.tokens, CachedTokens(parts, index, query)),
                        .start_ms = ttft_ms,
                        .ttft_ms = ttft_ms,
                        .step_ms = decode.step_ms},
          .cost = TtftCost(query, index, ttft_ms, worker.known()) + decode.cost,
          .harms = decode.harms};
}

// Chunks share their steps with the worker's batch.
Option Colocated(const PlacementParts& parts, const PlacementQuery& query, WorkerIndex index) {
  const WorkerState& worker = parts.cluster.worker(index);
  const DecodeOutlook now = DecodeAt(worker, query.now, query.now);
  const double chunk = std::max(1, worker.info.max_batch_tokens);
  const double fresh = static_cast<double>(query.tokens - CachedTokens(parts, index, query));
  const double ttft_ms =
      LookAtPrefill(parts, query, index).ttft_ms + std::ceil(fresh / chunk) * now.step_ms;
  return OnOneWorker(parts, query, index, Path::kColocated, ttft_ms);
}

// On a decode worker whose scheduler keeps prompts to what the TPOT objectives of its rows leave,
// so that they suffer nothing; but its steps are as long as a prompt while nothing decodes, so
// nobody who is about to begin may suffer from one of those, and the prompt itself needs time in
// hand for rows that come meanwhile. Else, no option.
Option InPlace(const PlacementParts& parts, const PlacementQuery& query, WorkerIndex index) {
  const WorkerState& worker = parts.cluster.worker(index);
  if (!worker.known() || !worker.info.paced_prefill || worker.free_credits() <= 0) return {};
  const double ttft_ms =
      PacedTtftMs(worker, query.now, query.tokens, CachedTokens(parts, index, query));
  Option option = OnOneWorker(parts, query, index, Path::kInPlace, ttft_ms);
  // With the prompts that are there already.
  const double longest_step_ms =
      std::min(WaitMs(worker, query.now) + option.placement.prefill_ms, FullPrefillStepMs(worker));
  const bool safe = !option.harms && option.cost < kMiss &&
                    ttft_ms * kTimeInHand <= query.objective.ttft_left_ms &&
                    StallIsSafe(worker, query.now, longest_step_ms, option.placement.step_ms);
  if (!safe) return {};
  option.cost += kInPlaceToll * option.placement.prefill_ms;
  return option;
}

struct Handoffs {
  Option best;
  absl::Time try_again = absl::InfiniteFuture();  // when a busy prefill worker takes more
};

Handoffs BestHandoff(const PlacementParts& parts, const PlacementQuery& query,
                     const Candidates& decodes) {
  const ClusterView& cluster = parts.cluster;
  Handoffs out;
  absl::InlinedVector<PrefillSide, 16> prefills;
  double soonest_ms = kInfinity;
  for (const WorkerIndex index : Pick(cluster.startable(Role::kPrefill),
                                      parts.prefixes[static_cast<size_t>(Role::kPrefill)], query)) {
    const WorkerState& worker = cluster.worker(index);
    const absl::Time ready = ReadyAt(worker);
    if (ready > query.now) {
      out.try_again = std::min(out.try_again, ready);
      continue;
    }
    prefills.push_back(LookAtPrefill(parts, query, index));
    prefills.back().ttft_ms += parts.links.reserve_ms();
    soonest_ms = std::min(soonest_ms, prefills.back().ttft_ms);
  }
  if (prefills.empty()) return out;
  for (const WorkerIndex index : decodes) {
    const absl::Time start = query.now + absl::Milliseconds(soonest_ms);
    const DecodeSide decode = LookAtDecode(parts, query, index, start);
    const double join_ms = JoinMs(cluster.worker(index), start);
    for (const PrefillSide& prefill : prefills) {
      const bool known = cluster.worker(prefill.worker).known() && cluster.worker(index).known();
      const double exposed_ms =
          parts.links.ExposedMs(PairOf(cluster, prefill.worker, index), decode.missing);
      const double ttft_ms = prefill.ttft_ms + join_ms;
      const bool pair_out = parts.pairs.Avoid(query.now, {prefill.worker, index});
      const double cost = TtftCost(query, prefill.worker, ttft_ms, known) + exposed_ms +
                          decode.cost + (pair_out ? kPairOut : 0);
      if (cost >= out.best.cost) continue;
      out.best = {.placement = {.prefill = prefill.worker,
                                .decode = index,
                                .path = Path::kHandoff,
                                .known = known,
                                .prefill_ms = prefill.prefill_ms,
                                .start_ms = prefill.ttft_ms,
                                .ttft_ms = ttft_ms,
                                .step_ms = decode.step_ms},
                  .cost = cost,
                  .harms = decode.harms,
                  .pair_out = pair_out};
    }
  }
  return out;
}

// Whether a pair that is not out serves the request sooner or later, among the first few workers of
// each side. A retry does not ask: what it avoids may be all that is left.
bool WaitsForAnotherPair(const PlacementParts& parts, const PlacementQuery& query) {
  if (!query.avoid.empty()) return false;
  const auto first = [&](Role role) {
    return Pick(parts.cluster.prefills(role), parts.prefixes[static_cast<size_t>(role)], query);
  };
  const Candidates decodes = first(Role::kDecode);
  for (const WorkerIndex prefill : first(Role::kPrefill)) {
    for (const WorkerIndex decode : decodes) {
      if (!parts.pairs.Avoid(query.now, {prefill, decode})) return true;
    }
  }
  return false;
}

PlacementAnswer ChoosePair(const PlacementParts& parts, const PlacementQuery& query) {
  const ClusterView& cluster = parts.cluster;
  const Candidates decodes = Pick(cluster.decodes(Role::kDecode),
                                  parts.prefixes[static_cast<size_t>(Role::kDecode)], query);
  if (decodes.empty()) return {};
  Handoffs handoffs = BestHandoff(parts, query, decodes);
  Option best = handoffs.best;
  if (best.harms && query.now < query.hold_until) {
    best = {};
    handoffs.try_again = query.hold_until;
  }
  if (best.pair_out && WaitsForAnotherPair(parts, query)) best = {};
  if (parts.in_place_on_decode) {
    for (const WorkerIndex index : decodes) {
      const absl::Time ready = ReadyAt(cluster.worker(index));
      if (ready > query.now) {
        handoffs.try_again = std::min(handoffs.try_again, ready);
        continue;
      }
      const Option option = InPlace(parts, query, index);
      if (option.cost < best.cost) best = option;
    }
  }
  if (best.cost == kInfinity) return {.try_again = handoffs.try_again};
  return {.placement = best.placement};
}

PlacementAnswer ChooseBoth(const PlacementParts& parts, const PlacementQuery& query) {
  PlacementAnswer answer;
  Option best;
  for (const WorkerIndex index : Pick(parts.cluster.startable(Role::kBoth),
                                      parts.prefixes[static_cast<size_t>(Role::kBoth)], query)) {
    const absl::Time ready = ReadyAt(parts.cluster.worker(index));
    if (ready > query.now) {
      answer.try_again = std::min(answer.try_again, ready);
      continue;
    }
    const Option option = Colocated(parts, query, index);
    if (option.cost < best.cost) best = option;
  }
  if (best.cost < kInfinity) answer.placement = best.placement;
  return answer;
}

}  // namespace

PlacementAnswer ChoosePlacement(const PlacementParts& parts, const PlacementQuery& query) {
  return parts.cluster.HasPair() ? ChoosePair(parts, query) : ChooseBoth(parts, query);
}

bool CouldEverFit(const ClusterView& cluster, std::span<const WorkerIndex> never) {
  const auto any_of_role = [&](Role role) {
    const auto& ranked = cluster.prefills(role).ranked();
    return std::any_of(ranked.begin(), ranked.end(),
                       [never](const auto& each) { return !Contains(never, each.second); });
  };
  if (cluster.HasPair()) return any_of_role(Role::kPrefill) && any_of_role(Role::kDecode);
  return any_of_role(Role::kBoth) || !cluster.CanServe();
}

}  // namespace baton::router
