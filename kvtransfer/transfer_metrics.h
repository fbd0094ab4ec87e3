// The Prometheus series of KV handoffs (API.md, "Handoff").
#pragma once

#include <array>
#include <map>
#include <string>

#include "common/kv_layout.h"
#include "common/metrics.h"
#include "kvtransfer/handoff.h"

namespace baton {

// One side of the handoffs of a process. Every series that needs no peer's name exists at zero from
// the start; those of a pair (kv_transfer_seconds, kv_transfer_pair_bytes_total) appear with the
// pair's first handoff. Owned by one thread.
class TransferMetrics {
 public:
  enum class Side { kSend, kReceive };
  TransferMetrics(MetricRegistry& registry, Side side, std::string worker_name);

  void Sealed(const HandoffStats& stats, const std::string& peer_name);  // receiver
  void Delivered(int64_t bytes);                                         // sender
  // Bytes of `memory` between its blocks and what the transport reads and writes.
  void Copied(const KvMemory& memory, uint64_t bytes);
  void Failed(HandoffFailure failure);

 private:
  MetricRegistry& registry_;
  const std::string worker_name_;
  Counter* bytes_;
  Counter* staged_bytes_;
  Counter* direct_bytes_;
  Histogram* exposed_ = nullptr;  // receiver only
  std::array<Counter*, kNumHandoffFailures> failures_{};
  struct Pair {
    Histogram* seconds = nullptr;
    Counter* bytes = nullptr;
  };
  std::map<std::pair<std::string, std::string>, Pair> pairs_;  // by (peer, transport)
};

}  // namespace baton
