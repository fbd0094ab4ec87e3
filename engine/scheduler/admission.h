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

// The oldest waiting branch has more tokens than the whole pool holds: it outgrew it before it was
// preempted. REQUIRES: something waits.
bool HeadOutgrewPool(const SchedulerState& state);
// The oldest waiting branch, if it could start now.
std::optional<Admission> CanAdmitHead(const SchedulerState& state);
// WAITING → PREFILL for the oldest waiting branch. REQUIRES: `admission` is fresh from
// CanAdmitHead.
BranchKey AdmitHead(SchedulerState* state, const Admission& admission);

}  // namespace baton
