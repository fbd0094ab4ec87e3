// Keeps a prefill and a decode worker apart whose handoffs fail, while both stay in service for
// others: a link that corrupts, loses or does not carry what one sends to the other, or two layouts
// that do not agree. Charged to the pair is what neither side can be blamed for alone: a checksum
// that does not hold, a ticket that is refused, a peer that cannot be reached though both live.
//
//   from     to       when
//   in       out      `failures` of its handoffs failed within `window`
//   out      probing  `probe_after` has passed, twice as long each time, `most_probe_after` at
//   most,
//                     and a handoff is placed on it: the probe
//   probing  in       the probe was sealed
//   probing  out      it failed; if it ended otherwise, the next handoff is the probe
//   any      in       one of the two has died: the next process starts from nothing
//
// A pair that is not in is a last resort: it is used only where no other pair can be had
// (placement.cc). No wrong token can come of it, since nothing is sealed unless its checksums hold;
// so a cluster of one pair serves what still goes through, and the rest ends by its typed error.
// Bounded: pairs that have not failed of late are not in it. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "router/core/ejection.h"
#include "router/core/types.h"

namespace baton::router {

struct PairEjectionOptions {
  int32_t failures = 3;
  absl::Duration window = absl::Seconds(10);
  absl::Duration probe_after = absl::Seconds(5);
  absl::Duration most_probe_after = absl::Seconds(60);
  size_t max_pairs = 65536;  // with failures; beyond them new ones go unnoticed
};

struct WorkerPair {
  WorkerIndex prefill = kNoWorker;
  WorkerIndex decode = kNoWorker;
  friend auto operator<=>(const WorkerPair&, const WorkerPair&) = default;
};

class PairEjection {
 public:
  explicit PairEjection(const PairEjectionOptions& options) : options_(options) {}

  // Whether a handoff should rather go elsewhere.
  bool Avoid(absl::Time now, const WorkerPair& pair) const;
  // A handoff is placed on it; true: it is the probe, and one of the next three must be said of it.
  [[nodiscard]] bool Place(absl::Time now, const WorkerPair& pair);
  void ProbeSealed(const WorkerPair& pair);
  void ProbeEnded(const WorkerPair& pair);  // otherwise than by its seal or the pair's failure
  // A handoff failed; `probe`: it was the probe.
  void Failed(absl::Time now, const WorkerPair& pair, bool probe);
  void Forget(WorkerIndex worker);

  Standing standing(const WorkerPair& pair) const;
  int32_t num_out() const { return num_out_; }  // probing ones, too
  std::vector<WorkerPair> Out() const;
  // Pairs whose standing has changed since the last call.
  std::vector<WorkerPair> TakeChanges() { return std::exchange(changes_, {}); }

 private:
  struct Pair {
    Standing standing = Standing::kIn;
    std::vector<absl::Time> failed_at;  // the last ones, while it is in
    absl::Time probe_at;
    absl::Duration probe_after;
  };
  using Pairs = std::map<WorkerPair, Pair>;

  Pair* Find(const WorkerPair& pair);
  void ForgetOldFailures(absl::Time now);
  void TakeOut(absl::Time now, Pairs::value_type& entry);
  Pairs::iterator Erase(Pairs::iterator it);

  const PairEjectionOptions options_;
  Pairs pairs_;
  std::vector<WorkerPair> changes_;
  int32_t num_out_ = 0;
};

}  // namespace baton::router
