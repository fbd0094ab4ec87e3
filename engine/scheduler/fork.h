// From one prompt to its samples.
#pragma once

#include <span>

#include "engine/scheduler/state.h"

namespace baton {

// Makes the branches of a sequence whose prompt is computed: all in phase DECODE and running, with
// the same tokens and blocks as branch 0. A block that they share is copied when one writes to it.
// REQUIRES: branch 0 is in phase DECODE.
void Fork(SchedulerState* state, Sequence* sequence);

// Appends a drawn token to a branch in DECODE and applies the finish rules. The sequence may be
// forgotten when this returns. `emit_token`: false when the client has it already.
void AppendToken(SchedulerState* state, Sequence* sequence, int32_t branch, SampledToken token,
                 bool emit_token);

// Gives each branch of a sequence that has just forked its first token, and ends those whose sample
// was aborted before. The sequence may be forgotten when this returns.
void StartSamples(SchedulerState* state, Sequence* sequence, std::span<const SampledToken> tokens,
                  bool emit_tokens);

}  // namespace baton
