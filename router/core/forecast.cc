// How a request would fare that came now: what admission asks.
#include <algorithm>
#include <limits>

#include "router/core/placement.h"
#include "router/core/placement_candidates.h"
#include "router/core/predictor.h"

namespace baton::router {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

const PrefixIndex& PrefixesOf(const PlacementParts& parts, Role role) {
  return parts.prefixes[static_cast<size_t>(role)];
}

// A probing worker takes one request: nobody is told to count on it.
template <typename Key>
Candidates PickInService(const PlacementParts& parts, const PlacementQuery& query,
                         const WorkerRanking<Key>& ranking, Role role) {
  return Pick(ranking, PrefixesOf(parts, role), query,
              [&](WorkerIndex index) { return parts.cluster.worker(index).accepts(); });
}

// The best over the first few in a ranking and the holders of the prefix.
template <typename Key, typename Value>
double Least(const PlacementParts& parts, const PlacementQuery& query,
             const WorkerRanking<Key>& ranking, Role role, const Value& value) {
  double least = kInfinity;
  for (const WorkerIndex index : PickInService(parts, query, ranking, role)) {
    const WorkerState& worker = parts.cluster.worker(index);
    if (!worker.known()) continue;
    least = std::min(least, value(index, worker));
  }
  return least;
}

// Until `rows` of the batch have ended, at the pace at which its rows end.
double ReliefMs(const WorkerState& worker, double rows, double step_ms) {
  double left = 0, samples = 0;
  for (const DecodeRow& row : worker.rows) {
    left += row.samples * row.steps_left();
    samples += row.samples;
  }
  if (samples == 0) return step_ms;
  // Rows end evenly over twice their mean remaining length.
  return std::min(rows / samples, 1.0) * 2 * (left / samples) * step_ms;
}

}  // namespace

Forecast MakeForecast(const PlacementParts& parts, const PlacementQuery& query,
                      const QueuedWork& ahead) {
  const ClusterView& cluster = parts.cluster;
  const bool pairs = cluster.HasPair();
  const Role prefill_role = pairs ? Role::kPrefill : Role::kBoth;
  const Role decode_role = pairs ? Role::kDecode : Role::kBoth;
  Forecast out;
  const auto prefill_ms = [&](WorkerIndex index, const WorkerState& worker) {
    return PrefillMs(worker, query.tokens, CachedTokens(parts, index, query));
  };
  const auto ttft_ms = [&](WorkerIndex index, const WorkerState& worker) {
    const double wait_ms = absl::ToDoubleMilliseconds(worker.prefill.free_at() - query.now);
    return std::max(0.0, wait_ms) + prefill_ms(index, worker);
  };
  const double context = static_cast<double>(query.samples * query.tokens);
  const auto alone_ms = [&](WorkerIndex, const WorkerState& worker) {
    return StepMsWith(worker, DecodeOutlook{}, query.samples, context);
  };
  out.floor_ttft_ms =
      Least(parts, query, cluster.quickest_prefill(prefill_role), prefill_role, prefill_ms);
  out.floor_tpot_ms =
      Least(parts, query, cluster.quickest_decode(decode_role), decode_role, alone_ms);
  out.ttft_ms = Least(parts, query, cluster.prefills(prefill_role), prefill_role, ttft_ms);
  if (pairs && parts.in_place_on_decode) {
    // First tokens wait for the prompts that decode workers have; later ones find as many there.
    const double join_ms =
        Least(parts, query, cluster.decodes(decode_role), decode_role,
              [&](WorkerIndex, const WorkerState& worker) { return JoinMs(worker, query.now); });
    // None has room: how long that lasts is not known, but WaitError learns of it.
    if (join_ms < kInfinity) out.ttft_ms += join_ms;
    // A decode worker may answer sooner, and one that holds most of the prompt may make the floor.
    const auto paced_ms = [&](WorkerIndex index, const WorkerState& worker) {
      if (!worker.info.paced_prefill || worker.free_credits() <= 0) return kInfinity;
      return PacedTtftMs(worker, query.now, query.tokens, CachedTokens(parts, index, query));
    };
    const double in_place_ms =
        Least(parts, query, cluster.decodes(decode_role), decode_role, paced_ms);
    out.floor_ttft_ms = std::min(out.floor_ttft_ms, in_place_ms);
    // What waits in the queue has found no place there yet.
    if (in_place_ms < out.ttft_ms) {
      const double share = parts.in_place_share;
      const bool only = ahead.prefill_us == 0 || out.ttft_ms == kInfinity;
      out.ttft_ms = only ? in_place_ms : share * in_place_ms + (1 - share) * out.ttft_ms;
    }
  }
  // What is queued ahead keeps all prefill workers busy for its share of time, but for the part
  // that decode workers take, as long as that keeps them busy.
  out.ms_per_ms =
      std::max((1 - parts.in_place_share) / std::max(1, cluster.NumAccepting(prefill_role)),
               parts.in_place_share / std::max(1, cluster.NumAccepting(decode_role)));
  const double ahead_ms = out.ms_per_ms * static_cast<double>(ahead.prefill_us) / 1000;
  out.start_ms = std::max(0.0, out.ttft_ms - out.floor_ttft_ms);
  out.wait_ms = out.start_ms + ahead_ms;
  out.ttft_ms += ahead_ms + (parts.wait_factor - 1) * out.wait_ms;
  out.start_ms *= parts.wait_factor;
  out.ms_per_ms *= parts.wait_factor;
  if (out.floor_tpot_ms == kInfinity || out.ttft_ms == kInfinity) return {};
  out.known = true;

  // The batch that it would join: what decodes then, and its part of what is queued ahead, unless
  // that will have come and gone.
  const absl::Time start = query.now + absl::Milliseconds(out.ttft_ms);
  const double workers = std::max(1, cluster.NumAccepting(decode_role));
  out.tpot_ms = kInfinity;
  for (const WorkerIndex index :
       PickInService(parts, query, cluster.decodes(decode_role), decode_role)) {
    const WorkerState& worker = cluster.worker(index);
    if (!worker.known()) continue;
    const DecodeOutlook outlook = DecodeAt(worker, query.now, start);
    const double life_ms =
        query.expected_output * StepMsWith(worker, outlook, query.samples, context);
    // They begin to decode one after the other over `ahead_ms`, the last of them as long before
    // this one as its own prefill takes; those that began more than a life ago are gone.
    const double overlap_ms = std::max(0.0, life_ms - out.floor_ttft_ms);
    const double still_there = std::min(1.0, overlap_ms / std::max(1.0, ahead_ms)) / workers;
    const double more_rows = still_there * static_cast<double>(ahead.rows);
    const double more_context = still_there * static_cast<double>(ahead.context);
    const double step_ms =
        StepMsWith(worker, outlook, query.samples + more_rows, context + more_context);
    if (step_ms >= out.tpot_ms) continue;
    out.tpot_ms = step_ms;
    const double rows = outlook.rows + query.samples + more_rows;
    const double too_many =
        rows * (1 - query.objective.tpot_ms / std::max(step_ms, query.objective.tpot_ms));
    out.tpot_relief_ms = out.ttft_ms + ReliefMs(worker, too_many, step_ms);
  }
  // All decode workers are out of room: what that means for TPOT is not known.
  if (out.tpot_ms == kInfinity) out.tpot_ms = out.floor_tpot_ms;
  return out;
}

}  // namespace baton::router
