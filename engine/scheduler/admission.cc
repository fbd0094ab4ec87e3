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

absl::Time PrefillOrder(const SchedulerState& state, const Sequence& sequence) {
  const SequenceObjective& objective = sequence.objective;
  const absl::Time by_patience = objective.arrived + state.options.patience;
  if (objective.first_token_due == absl::InfiniteFuture()) return by_patience;
  absl::Duration needed;
  if (state.step_model != nullptr) {
    const int32_t cached = sequence.expected_cached_tokens;
    const int32_t tokens = sequence.branches[0].num_tokens() - cached;
    needed = absl::Milliseconds(state.step_model->PredictMs(StepShape::Prefill(tokens, cached)));
  }
  const bool hopeless = objective.first_token_due - objective.arrived <= needed;
  return hopeless ? by_patience : objective.first_token_due;
}

bool OutgrewPool(const SchedulerState& state, const Sequence& sequence, int32_t branch) {
  const int32_t num_tokens = sequence.branches[static_cast<size_t>(branch)].num_tokens();
  return BlocksForTokens(num_tokens, state.options.block_size) > state.options.num_blocks;
}

std::optional<Admission> CanAdmit(const SchedulerState& state, const Sequence& sequence,
                                  int32_t index) {
  const Branch& branch = sequence.branches[static_cast<size_t>(index)];
  return FindRoom(state, sequence, branch, MatchableTokens(sequence, branch));
}

bool BetterWaitsForPrefix(const SchedulerState& state, const Sequence& sequence, int32_t index) {
  if (!state.options.prefix_caching) return false;
  const Branch& branch = sequence.branches[static_cast<size_t>(index)];
  const int32_t matchable = MatchableTokens(sequence, branch);
  const int32_t block_size = state.options.block_size;
  int32_t common = 0;  // with a prompt that has not come that far yet
  for (const auto& [key, other] : state.running) {
    const Branch& ahead = other->branches[static_cast<size_t>(key.branch)];
    if (ahead.phase != BranchPhase::kPrefill || ahead.indexed.collided ||
        other->spec.cache_salt != sequence.spec.cache_salt) {
      continue;
    }
    const auto differ = std::ranges::mismatch(branch.tokens, ahead.tokens);
    const auto equal = static_cast<int32_t>(differ.in1 - branch.tokens.begin());
    const int32_t shared = std::min(equal, matchable) / block_size * block_size;
    if (shared > ahead.computed_tokens) common = std::max(common, shared);
  }
  if (common == 0) return false;
  const int32_t cached = CachedTokens(state, sequence, branch);
  if (common <= cached) return false;
  if (state.step_model == nullptr) return true;
  // Waiting costs it one more step at most, computing twice costs all of them the tokens.
  const StepModelTracker& model = *state.step_model;
  return model.PredictMs(StepShape::Prefill(common - cached, cached)) >
         2 * model.PredictMs(StepShape::Prefill(1, 0));
}

void Admit(SchedulerState* state, const Admission& admission, Sequence* sequence, int32_t index) {
  Branch& branch = sequence->At(index);
  state->waiting.erase(WaitKeyOf(*sequence, index));
  if (!sequence->admitted_before) --state->unstarted;
  TakeRoom(state, admission, sequence, &branch);
  branch.MoveTo(BranchPhase::kPrefill);
  state->running.emplace(BranchKey{sequence->id, index}, sequence);
}

}  // namespace baton
