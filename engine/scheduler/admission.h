// Letting a sequence in: what the prefix cache already has of it, and room for the rest.
#pragma once

#include <optional>
#include <vector>

#include "engine/kv/prefix_index.h"
#include "engine/scheduler/state.h"

namespace baton {

struct Admission {
  std::vector<PrefixLink> matched;  // the leading full blocks that are already computed
  int32_t missing_blocks = 0;
};

// Room for all tokens of `branch` when its first `matchable_tokens` may come from the prefix cache;
// nullopt: not now.
std::optional<Admission> FindRoom(const SchedulerState& state, const Sequence& sequence,
                                  const Branch& branch, int32_t matchable_tokens);

// Tokens of a waiting branch whose KV may come from the prefix cache, when it is there.
int32_t MatchableTokens(const Sequence& sequence, const Branch& branch);
// Those that are there now.
int32_t CachedTokens(const SchedulerState& state, const Sequence& sequence, const Branch& branch);

// Gives `branch` its blocks: the matched ones shared, the missing ones RESERVED.
void TakeRoom(SchedulerState* state, const Admission& admission, Sequence* sequence,
              Branch* branch);

// When a new sequence's prompt is due: by its objective, or by patience where it has none or the
// step model says that it cannot be met any more. So nobody waits for ever.
absl::Time PrefillOrder(const SchedulerState& state, const Sequence& sequence);

// A waiting branch has more tokens than the whole pool holds: it outgrew it before it was
// preempted.
bool OutgrewPool(const SchedulerState& state, const Sequence& sequence, int32_t branch);
// Room for a waiting branch, if it could start now.
std::optional<Admission> CanAdmit(const SchedulerState& state, const Sequence& sequence,
                                  int32_t branch);
// A prompt that is computed now begins as this waiting branch does, and goes on where the prefix
// cache ends: it is quicker to take its blocks when they are final than to compute them twice.
bool BetterWaitsForPrefix(const SchedulerState& state, const Sequence& sequence, int32_t branch);
// WAITING → PREFILL. REQUIRES: `admission` is fresh from CanAdmit.
void Admit(SchedulerState* state, const Admission& admission, Sequence* sequence, int32_t branch);

}  // namespace baton
