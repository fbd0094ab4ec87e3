#include "router/core/link_costs.h"

namespace baton::router {
namespace {

constexpr double kObserveWeight = 0.1;

}  // namespace

uint64_t LinkCosts::KeyOf(const LinkPair& pair) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(pair.prefill.value())) << 32) |
         static_cast<uint32_t>(pair.decode.value());
}

void LinkCosts::Observe(const LinkPair& pair, int64_t tokens, double transfer_ms,
                        double exposed_ms) {
  if (tokens <= 0) return;
  const auto blend = [&](PerToken& rate) {
    const double weight = rate.measured ? kObserveWeight : 1;
    rate.ms += weight * (transfer_ms / static_cast<double>(tokens) - rate.ms);
    rate.exposed_ms += weight * (exposed_ms / static_cast<double>(tokens) - rate.exposed_ms);
    rate.measured = true;
  };
  blend(kinds_[pair.one_machine ? 1 : 0]);
  if (pairs_.size() < max_pairs_ || pairs_.contains(KeyOf(pair))) blend(pairs_[KeyOf(pair)]);
}

void LinkCosts::ObserveReserve(double ms) {
  reserve_ms_ += (reserve_measured_ ? kObserveWeight : 1) * (ms - reserve_ms_);
  reserve_measured_ = true;
}

const LinkCosts::PerToken& LinkCosts::Rate(const LinkPair& pair) const {
  const auto found = pairs_.find(KeyOf(pair));
  return found != pairs_.end() ? found->second : kinds_[pair.one_machine ? 1 : 0];
}

}  // namespace baton::router
