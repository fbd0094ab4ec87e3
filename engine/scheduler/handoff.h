// The decode side of a handoff: landing places for KV that a peer computes.
#pragma once

#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/scheduler/state.h"

namespace baton {

// The contracts are those of Scheduler's methods of the same names. REQUIRES: a checked spec.
absl::StatusOr<Reservation> Reserve(SchedulerState* state, GenerationSpec spec,
                                    const SequenceObjective& objective);
absl::Status Seal(SchedulerState* state, SequenceId id, std::span<const TokenId> first_tokens);
void LandingReleased(SchedulerState* state, SequenceId id);

}  // namespace baton
