// What the step loop tells the other threads about itself after each turn. Plain data, copied.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "common/step_model.h"
#include "engine/scheduler/scheduler.h"
#include "worker/role_core.h"

namespace baton {

struct StatusSnapshot {
  RoleView role;
  BlockCensus blocks;
  int32_t running = 0;
  int32_t waiting = 0;
  uint64_t steps_completed = 0;
  // When the step that runs now began; unset between steps. Liveness is tied to it.
  std::optional<absl::Time> step_started;
  double step_ms_ewma = 0.0;
  uint64_t preemptions_total = 0;
  uint64_t prefix_query_tokens_total = 0;
  uint64_t prefix_hit_tokens_total = 0;
  // Of the step model, as the latest steps correct it.
  double prefill_factor = 1.0;
  double decode_factor = 1.0;
  StepTime step_time;
  SizeFactors prefill_factors;
  SizeFactors decode_factors;
  double step_error_ratio = 0.0;
  StepShape work_at_hand;
  bool engine_broken = false;

  int32_t total_blocks() const {
    return blocks.free + blocks.reserved + blocks.landing + blocks.sealed + blocks.in_use +
           blocks.cached + blocks.quarantined;
  }
  // What a new request could take: free blocks and cached ones that nobody uses.
  int32_t available_blocks() const { return blocks.free + blocks.cached; }

  // Whether a router that dispatches by credits and room should hear of the change at once.
  bool DispatchDiffers(const StatusSnapshot& other) const {
    return role.credits != other.role.credits || role.draining != other.role.draining ||
           available_blocks() != other.available_blocks() || engine_broken != other.engine_broken;
  }
};

// What the core, the scheduler and the step model say; the loop's own counts are its to fill in.
StatusSnapshot TakeSnapshot(const RoleCore& core, const Scheduler& scheduler,
                            const StepModelTracker& steps);

}  // namespace baton
