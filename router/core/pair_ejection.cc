#include "router/core/pair_ejection.h"

#include <algorithm>

namespace baton::router {

PairEjection::Pair* PairEjection::Find(const WorkerPair& pair) {
  const auto found = pairs_.find(pair);
  return found == pairs_.end() ? nullptr : &found->second;
}

bool PairEjection::Avoid(absl::Time now, const WorkerPair& pair) const {
  const auto found = pairs_.find(pair);
  if (found == pairs_.end() || found->second.standing == Standing::kIn) return false;
  return found->second.standing == Standing::kProbing || now < found->second.probe_at;
}

bool PairEjection::Place(absl::Time now, const WorkerPair& pair) {
  Pair* const known = Find(pair);
  if (known == nullptr || known->standing != Standing::kOut || now < known->probe_at) return false;
  known->standing = Standing::kProbing;
  changes_.push_back(pair);
  return true;
}

void PairEjection::ProbeSealed(const WorkerPair& pair) {
  const auto found = pairs_.find(pair);
  if (found != pairs_.end() && found->second.standing == Standing::kProbing) Erase(found);
}

void PairEjection::ProbeEnded(const WorkerPair& pair) {
  Pair* const known = Find(pair);
  if (known == nullptr || known->standing != Standing::kProbing) return;
  known->standing = Standing::kOut;  // and probe_at has passed
  changes_.push_back(pair);
}

void PairEjection::Failed(absl::Time now, const WorkerPair& pair, bool probe) {
  if (!pairs_.contains(pair) && pairs_.size() >= options_.max_pairs) {
    ForgetOldFailures(now);
    if (pairs_.size() >= options_.max_pairs) return;
  }
  Pairs::value_type& entry = *pairs_.try_emplace(pair).first;
  Pair& known = entry.second;
  switch (known.standing) {
    case Standing::kIn:
      known.failed_at.push_back(now);
      std::erase_if(known.failed_at, [&](absl::Time at) { return now - at > options_.window; });
      if (static_cast<int32_t>(known.failed_at.size()) < options_.failures) break;
      known.failed_at.clear();
      known.probe_after = options_.probe_after;
      TakeOut(now, entry);
      break;
    case Standing::kOut:  // what was under way, or the last resort: nothing new
      break;
    case Standing::kProbing:
      if (!probe) break;
      known.probe_after = std::min(2 * known.probe_after, options_.most_probe_after);
      TakeOut(now, entry);
      break;
  }
}

void PairEjection::TakeOut(absl::Time now, Pairs::value_type& entry) {
  Pair& pair = entry.second;
  if (pair.standing == Standing::kIn) ++num_out_;
  pair.standing = Standing::kOut;
  pair.probe_at = now + pair.probe_after;
  changes_.push_back(entry.first);
}

void PairEjection::Forget(WorkerIndex worker) {
  for (auto it = pairs_.begin(); it != pairs_.end();) {
    const bool of_worker = it->first.prefill == worker || it->first.decode == worker;
    it = of_worker ? Erase(it) : std::next(it);
  }
}

void PairEjection::ForgetOldFailures(absl::Time now) {
  std::erase_if(pairs_, [&](const Pairs::value_type& entry) {
    const Pair& pair = entry.second;
    return pair.standing == Standing::kIn && now - pair.failed_at.back() > options_.window;
  });
}

PairEjection::Pairs::iterator PairEjection::Erase(Pairs::iterator it) {
  if (it->second.standing != Standing::kIn) {
    --num_out_;
    changes_.push_back(it->first);
  }
  return pairs_.erase(it);
}

Standing PairEjection::standing(const WorkerPair& pair) const {
  const auto found = pairs_.find(pair);
  return found == pairs_.end() ? Standing::kIn : found->second.standing;
}

std::vector<WorkerPair> PairEjection::Out() const {
  std::vector<WorkerPair> out;
  for (const auto& [pair, known] : pairs_) {
    if (known.standing != Standing::kIn) out.push_back(pair);
  }
  return out;
}

}  // namespace baton::router
