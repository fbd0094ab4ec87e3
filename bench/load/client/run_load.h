// Sends a plan to a server and records what comes back.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/load/client/target.h"
#include "bench/load/core/record.h"
#include "bench/load/core/stats.h"
#include "bench/load/core/workload.h"

namespace baton::load {

struct LoadProgress {
  absl::Duration elapsed;
  int64_t planned = 0;
  int64_t sent = 0;
  int64_t ended = 0;
  int64_t succeeded = 0;
  int64_t output_tokens = 0;
  double last_late_ms = 0;  // of the request sent last
};

struct LoadHooks {
  // Called every `interval` from the run's loop: must be quick. False: stop sending, abort what is
  // in flight and return what there is. May be empty.
  std::function<bool(const LoadProgress&)> on_progress;
  // Called once a request has ended, however it did. False: as above. May be empty.
  std::function<bool(const RequestRecord&)> on_ended;
  absl::Duration interval = absl::Milliseconds(200);
  // Called with the number of tokens received so far after each read that brought some, from the
  // run's loop: must be quick. May be empty.
  std::function<void(int64_t)> on_tokens;
};

// What the client itself cost: a run is to be believed only while these are small.
struct ClientOverhead {
  double cpu_s = 0;  // of the thread
  double wall_s = 0;
  Distribution loop_lag_ms;   // how late a 10 ms tick of the loop was
  Distribution read_lag_ms;   // how long bytes had lain in the kernel, see read_buffer.h
  int64_t connections = 0;    // opened
  int64_t reconnections = 0;  // a kept connection turned out closed: sent again on a new one
  int64_t output_tokens = 0;  // of all requests, warm-up included

  double cpu_fraction() const { return wall_s > 0 ? cpu_s / wall_s : 0; }
  double cpu_per_token_us() const {
    return output_tokens > 0 ? cpu_s * 1e6 / static_cast<double>(output_tokens) : 0;
  }
};

struct LoadResult {
  std::vector<RequestRecord> records;  // of all that were sent, in the plan's order
  ClientOverhead overhead;
  bool interrupted = false;
};

// Open loop: each request is sent at its intended time whatever the server does, on a kept
// connection if one is idle, else on a new one. Blocks until every request has ended, timed out at
// the latest. Uses the calling thread alone; calls may follow one another in one process. Fails
// only when the host has no address; everything else that goes wrong is in the records.
absl::StatusOr<LoadResult> RunLoad(const LoadPlan& plan, const Target& target,
                                   const LoadHooks& hooks = {});

}  // namespace baton::load
