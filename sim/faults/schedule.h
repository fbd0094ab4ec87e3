// One seed's schedule: a small cluster, the requests that come and the faults that strike. Plain
// data, so that a failing one can be made shorter and printed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/request.h"
#include "router/core/types.h"

namespace baton::sim {

enum class FaultKind {
  kCrash,         // a worker dies; its peers' connections break
  kSilentCrash,   // the same as its machine does: nobody is told
  kPause,         // a worker stands still
  kSlowSteps,     // its steps take `amount` per cent of their time
  kClockJump,     // its clock goes ahead by `length`
  kPartition,     // nothing passes between the router and a worker
  kSessionReset,  // the control connection of a worker breaks
  kSlowControl,   // control messages of a worker take up to `length` more, for ten times that
  kKvPartition,   // KV connections of a worker are cut, nobody is told; new ones do not come up
  kKvReset,       // KV connections of a worker break
  kKvNoise,       // `amount` per cent of a worker's KV messages are repeated, and as many are late;
                  // half as many are lost, and half as many payloads corrupt
  kLateWrites,    // payloads land up to `amount` times later
  kDrain,         // a worker is asked to finish and leave; it comes back
  kRouterCrash,
};
inline constexpr int32_t kNumFaultKinds = 14;

struct Fault {
  FaultKind kind = FaultKind::kCrash;
  absl::Duration at;
  absl::Duration length;
  int32_t worker = 0;
  int32_t amount = 0;  // per cent, or a factor for late writes
  std::string ToString() const;
};

struct PlannedRequest {
  RequestId id;
  absl::Duration at;
  GenerationSpec spec;
  absl::Duration timeout;
  std::optional<absl::Duration> cancel_after;  // the client leaves
  std::optional<absl::Duration> stop_after;    // a stop string is seen in sample 0
  std::string ToString() const;
};

struct WorkerShape {
  router::Role role = router::Role::kBoth;
  int32_t blocks = 0;
  int32_t batch_tokens = 0;
  // What came of a decode step is told when the next has begun, and that may be before its tokens
  // are known.
  bool on_device = false;
};

struct Schedule {
  uint64_t seed = 0;
  std::vector<WorkerShape> workers;
  std::vector<PlannedRequest> requests;
  std::vector<Fault> faults;
  std::string ToString() const;  // one line each
};

inline constexpr int32_t kToyMaxModelLen = 128;

// Pure: the same seed, the same schedule.
Schedule MakeSchedule(uint64_t seed);

}  // namespace baton::sim
