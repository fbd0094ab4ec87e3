#include "engine/scheduler/admission.h"

#include <algorithm>

#include "common/check.h"
#include "common/kv_layout.h"

namespace baton {

// At least the last token is computed: its logits give the next one. Prompt logprobs need the
// logits of every prompt token that has not given them yet.
int32_t MatchableTokens(const Sequence& sequence, const Branch& branch) {
  const int32_t all_but_last = branch.num_tokens() - 1;
  if (sequence.spec.sampling.num_prompt_logprobs < 0) return all_but_last;
  if (sequence.prompt_logits_from >= sequence.spec.prompt_length - 1) return all_but_last;
  return std::min(all_but_last, sequence.prompt_logits_from);
}

int32_t CachedTokens(const SchedulerState& state, const Sequence& sequence, const Branch& branch) {
  if (!state.options.prefix_caching) return 0;
  const int32_t block_size = state.options.block_size;
  const auto chain = state.cache.Match(sequence.spec.cache_salt, branch.tokens,
                                       MatchableTokens(sequence, branch) / block_size);
  return static_cast<int32_t>(chain.size()) * block_size;
}

std::optional<Admission> FindRoom(const SchedulerState& state, const Sequence& sequence,
                                  const Branch& branch, int32_t matchable_tokens) {
  const SchedulerOptions& options = state.options;
  const int32_t new_branches =
      sequence.mode == SequenceMode::kGenerate ? sequence.samples_at_fork() : 0;
  const int32_t growing = state.GrowingBranches();
  if (growing > 0 && growing + new_branches > options.max_batch_sequences) return std::nullopt;

  Admission admission;
  if (options.prefix_caching) {
    admission.matched = state.cache.Match(sequence.spec.cache_salt, branch.tokens,
                                          matchable_tokens / options.block_size);
  }
  admission.missing_blocks = BlocksForTokens(branch.num_tokens(), options.block_size) -
                             static_cast<int32_t>(admission.matched.size());
  int32_t available = state.cache.available();
  for (const PrefixLink& link : admission.matched) {
    available -= state.cache.pool().State(link.block) == BlockState::kCached;
  }
  // One spare block for each branch that may ask for one, so that a newcomer does not get the older
  // ones preempted at once. What is alone gets everything: otherwise it might wait for ever.
  const int32_t watermark = growing == 0 ? 0 : growing + std::max(new_branches - 1, 0);
  if (admission.missing_blocks + watermark > available) return std::nullopt;
  return admission;
}

void TakeRoom(SchedulerState* state, const Admission& admission, Sequence* sequence,
              Branch* branch) {
  BlockPool& pool = state->cache.pool();
  for (const PrefixLink& link : admission.matched) branch->blocks.Append(pool.Share(link.block));
  std::vector<BlockRef> missing;
  BATON_CHECK(state->cache.Allocate(admission.missing_blocks,
                                    BlockId(branch->blocks.back().value() + 1), &missing))
      << admission.missing_blocks << " blocks of " << state->cache.available();
  for (BlockRef& block : missing) branch->blocks.Append(std::move(block));

  const auto matched_blocks = static_cast<int32_t>(admission.matched.size());
  branch->computed_tokens = matched_blocks * state->options.block_size;
  branch->indexed = {};
  if (matched_blocks > 0) {
    branch->indexed = {.link = admission.matched.back(), .blocks = matched_blocks};
  }
  if (sequence->admitted_before) return;
  sequence->admitted_before = true;
  sequence->cached_tokens = branch->computed_tokens;
  state->prefix_query_tokens += static_cast<uint64_t>(branch->num_tokens());
  state->prefix_hit_tokens += static_cast<uint64_t>(branch->computed_tokens);
}

bool HeadOutgrewPool(const SchedulerState& state) {
  const auto& [key, sequence] = *state.waiting.begin();
  return BlocksForTokens(sequence->At(key.branch).num_tokens(), state.options.block_size) >
         state.options.num_blocks;
}

std::optional<Admission> CanAdmitHead(const SchedulerState& state) {
  if (state.waiting.empty()) return std::nullopt;
  const auto& [key, sequence] = *state.waiting.begin();
  const Branch& branch = sequence->At(key.branch);
  return FindRoom(state, *sequence, branch, MatchableTokens(*sequence, branch));
}

BranchKey AdmitHead(SchedulerState* state, const Admission& admission) {
  const auto [key, sequence] = *state->waiting.begin();
  Branch& branch = sequence->At(key.branch);
  state->waiting.erase(state->waiting.begin());
  if (!sequence->admitted_before) --state->unstarted;
  TakeRoom(state, admission, sequence, &branch);
  branch.MoveTo(BranchPhase::kPrefill);
  state->running.emplace(key, sequence);
  return key;
}

}  // namespace baton
