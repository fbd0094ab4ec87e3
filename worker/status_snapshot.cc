#include "worker/status_snapshot.h"

namespace baton {

StatusSnapshot TakeSnapshot(const RoleCore& core, const Scheduler& scheduler,
                            const StepModelTracker& steps) {
  return {.role = core.view(),
          .blocks = scheduler.Census(),
          .running = scheduler.num_running(),
          .waiting = scheduler.num_waiting(),
          .preemptions_total = scheduler.preemptions_total(),
          .prefix_query_tokens_total = scheduler.prefix_query_tokens_total(),
          .prefix_hit_tokens_total = scheduler.prefix_hit_tokens_total(),
          .prefill_factor = steps.prefill_factor(),
          .decode_factor = steps.decode_factor(),
          .step_time = steps.step_time(),
          .prefill_factors = steps.prefill_factors(),
          .decode_factors = steps.decode_factors(),
          .step_error_ratio = steps.error_ratio(),
          .work_at_hand = scheduler.WorkAtHand()};
}

}  // namespace baton
