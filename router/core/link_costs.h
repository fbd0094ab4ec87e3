// How long a prompt's KV takes from one worker to another: a moving average for each pair that was
// measured, the average of its kind (one machine or two) for the others. Bounded. Pure.
#pragma once

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "router/core/types.h"

namespace baton::router {

struct LinkPair {
  WorkerIndex prefill = kNoWorker;
  WorkerIndex decode = kNoWorker;
  bool one_machine = false;
};

class LinkCosts {
 public:
  explicit LinkCosts(size_t max_pairs = 65536) : max_pairs_(max_pairs) {}

  // One sealed handoff of `tokens` tokens' KV.
  void Observe(const LinkPair& pair, int64_t tokens, double transfer_ms, double exposed_ms);
  // The answer to a Reserve took so long: what a handoff costs before it begins.
  void ObserveReserve(double ms);
  double reserve_ms() const { return reserve_ms_; }
  // Of `tokens` tokens' KV. 0 before anything was measured.
  double TransferMs(const LinkPair& pair, int64_t tokens) const { return Rate(pair).ms * tokens; }
  // The part that prefill does not hide: what the second token waits for.
  double ExposedMs(const LinkPair& pair, int64_t tokens) const {
    return Rate(pair).exposed_ms * tokens;
  }

 private:
  struct PerToken {
    double ms = 0;
    double exposed_ms = 0;
    bool measured = false;
  };

  static uint64_t KeyOf(const LinkPair& pair);
  const PerToken& Rate(const LinkPair& pair) const;

  const size_t max_pairs_;
  absl::flat_hash_map<uint64_t, PerToken> pairs_;
  PerToken kinds_[2];  // two machines, one machine
  double reserve_ms_ = 0;
  bool reserve_measured_ = false;
};

}  // namespace baton::router
