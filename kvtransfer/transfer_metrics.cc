#include "kvtransfer/transfer_metrics.h"

#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace baton {
namespace {

std::vector<double> TransferBuckets() {
  return {.00025, .0005, .001, .002, .004, .008, .015, .03, .06, .125, .25, .5, 1, 2, 4, 8};
}

}  // namespace

TransferMetrics::TransferMetrics(MetricRegistry& registry, Side side, std::string worker_name)
    : registry_(registry), worker_name_(std::move(worker_name)) {
  const std::string name = side == Side::kSend ? "send" : "receive";
  bytes_ = registry.AddCounter("kv_transfer_bytes_total",
                               "KV bytes of handoffs that succeeded, by this worker's side.",
                               {{"side", name}});
  staged_bytes_ = registry.AddCounter("kv_staged_bytes_total",
                                      "KV bytes copied between a device and host memory because "
                                      "the transport reads only the host's.",
                                      {{"side", name}});
  direct_bytes_ = registry.AddCounter("kv_direct_bytes_total",
                                      "KV bytes that the transport reads from, or writes to, a "
                                      "device's memory.",
                                      {{"side", name}});
  for (int i = 0; i < kNumHandoffFailures; ++i) {
    const std::string reason(HandoffFailureName(static_cast<HandoffFailure>(i)));
    failures_[static_cast<size_t>(i)] =
        registry.AddCounter("kv_transfer_failures_total", "Handoffs that failed, by reason.",
                            {{"side", name}, {"reason", reason}});
  }
  if (side == Side::kReceive) {
    exposed_ = registry.AddHistogram("kv_transfer_exposed_seconds",
                                     "From the arrival of a handoff's tail to its seal: transfer "
                                     "time that no computation hid.",
                                     {}, TransferBuckets());
  }
}

void TransferMetrics::Sealed(const HandoffStats& stats, const std::string& peer_name) {
  bytes_->Increment(static_cast<double>(stats.bytes));
  exposed_->Observe(absl::ToDoubleSeconds(stats.exposed));
  Pair& pair = pairs_[{peer_name, stats.transport}];
  if (pair.seconds == nullptr) {
    const MetricLabels labels = {
        {"src", peer_name}, {"dst", worker_name_}, {"transport", stats.transport}};
    pair.seconds =
        registry_.AddHistogram("kv_transfer_seconds", "From a handoff's first KV byte to its seal.",
                               labels, TransferBuckets());
    pair.bytes = registry_.AddCounter("kv_transfer_pair_bytes_total",
                                      "KV bytes of sealed handoffs, by pair of workers.", labels);
  }
  pair.seconds->Observe(absl::ToDoubleSeconds(stats.transfer));
  pair.bytes->Increment(static_cast<double>(stats.bytes));
}

void TransferMetrics::Delivered(int64_t bytes) { bytes_->Increment(static_cast<double>(bytes)); }

void TransferMetrics::Copied(const KvMemory& memory, uint64_t bytes) {
  if (memory.staging == nullptr) return;
  Counter* copied = memory.staged_on_device ? direct_bytes_ : staged_bytes_;
  copied->Increment(static_cast<double>(bytes));
}

void TransferMetrics::Failed(HandoffFailure failure) {
  failures_[static_cast<size_t>(failure)]->Increment();
}

}  // namespace baton
