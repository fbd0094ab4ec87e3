#include "router/core/placement.h"

#include <algorithm>
#include <limits>

namespace baton::router {
namespace {

// Far above any load cost, so that an avoided worker comes last.
constexpr double kAvoidCost = 1e6;

bool Contains(std::span<const WorkerIndex> list, WorkerIndex worker) {
  return std::find(list.begin(), list.end(), worker) != list.end();
}

double BlockShareInUse(const WorkerState& worker) {
  const double total = std::max(1, worker.info.total_blocks);
  return 1.0 - worker.report.available_blocks() / total;
}

// In units of prompts of this request's length waiting ahead of it.
double PrefillCost(const WorkerState& worker, WorkerIndex index, const PlacementQuery& query) {
  double cost = std::max(worker.placed_prefills, worker.report.waiting) + BlockShareInUse(worker);
  if (query.affinity.prefill == index && query.prompt_tokens > 0) {
    const double saved = double{1} * query.affinity.blocks * worker.info.block_size;
    cost -= std::min(1.0, saved / query.prompt_tokens);
  }
  if (Contains(query.avoid, index)) cost += kAvoidCost;
  return cost;
}

// 0 is idle, 2 is full of blocks and of sequences.
double DecodeCost(const WorkerState& worker, WorkerIndex index, const PlacementQuery& query) {
  const double batch = std::max(1, worker.info.max_batch_sequences);
  const int32_t sequences =
      std::max(worker.placed_decodes, worker.report.running + worker.report.waiting);
  double cost = BlockShareInUse(worker) + (sequences + query.num_samples) / batch;
  if (query.affinity.decode == index && query.prompt_tokens > 0) {
    const double saved = double{1} * query.affinity.blocks * worker.info.block_size;
    cost -= 0.25 * std::min(1.0, saved / query.prompt_tokens);
  }
  if (Contains(query.avoid, index)) cost += kAvoidCost;
  return cost;
}

// The cheapest worker for which `usable` holds, first in the list on a tie.
template <typename Usable, typename Cost>
WorkerIndex Cheapest(const ClusterView& cluster, const Usable& usable, const Cost& cost) {
  WorkerIndex best = kNoWorker;
  double best_cost = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < cluster.workers().size(); ++i) {
    const WorkerState& worker = cluster.workers()[i];
    const WorkerIndex index(static_cast<int32_t>(i));
    if (!worker.accepts() || !usable(worker, index)) continue;
    if (const double c = cost(worker, index); c < best_cost) {
      best = index;
      best_cost = c;
    }
  }
  return best;
}

}  // namespace

std::optional<Placement> ChoosePlacement(const ClusterView& cluster, const PlacementQuery& query) {
  const auto prefill_cost = [&](const WorkerState& worker, WorkerIndex index) {
    return PrefillCost(worker, index, query);
  };
  const auto decode_cost = [&](const WorkerState& worker, WorkerIndex index) {
    return DecodeCost(worker, index, query);
  };
  const auto has_credit = [&](Role role) {
    return [&query, role](const WorkerState& worker, WorkerIndex index) {
      return worker.info.role == role && worker.free_credits() > 0 && !Contains(query.never, index);
    };
  };
  if (cluster.HasPair()) {
    const WorkerIndex decode = Cheapest(
        cluster,
        [&](const WorkerState& worker, WorkerIndex index) {
          return worker.info.role == Role::kDecode && !worker.out_of_room &&
                 !Contains(query.never, index);
        },
        decode_cost);
    if (decode == kNoWorker) return std::nullopt;
    const WorkerIndex prefill = Cheapest(cluster, has_credit(Role::kPrefill), prefill_cost);
    if (prefill == kNoWorker) return std::nullopt;
    return Placement{prefill, decode};
  }
  const WorkerIndex both =
      Cheapest(cluster, has_credit(Role::kBoth), [&](const WorkerState& worker, WorkerIndex index) {
        return PrefillCost(worker, index, query) + DecodeCost(worker, index, query);
      });
  if (both == kNoWorker) return std::nullopt;
  return Placement{both, both};
}

bool CouldEverFit(const ClusterView& cluster, std::span<const WorkerIndex> never) {
  const auto any_of_role = [&](Role role) {
    for (size_t i = 0; i < cluster.workers().size(); ++i) {
      const WorkerState& worker = cluster.workers()[i];
      if (worker.accepts() && worker.info.role == role &&
          !Contains(never, WorkerIndex(static_cast<int32_t>(i)))) {
        return true;
      }
    }
    return false;
  };
  if (cluster.HasPair()) return any_of_role(Role::kPrefill) && any_of_role(Role::kDecode);
  return any_of_role(Role::kBoth) || !cluster.CanServe();
}

}  // namespace baton::router
