#include "engine/scheduler/commit.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "engine/scheduler/ending.h"
#include "engine/scheduler/fork.h"

namespace baton {

namespace {

// The last chunk of a prompt gave the first token of each sample.
void CommitFirstTokens(SchedulerState* state, Sequence* sequence,
                       std::span<const SampledToken> tokens) {
  Branch& trunk = sequence->branches[0];
  if (sequence->mode == SequenceMode::kPrefillOnly) {
    const int32_t index = trunk.num_tokens() - sequence->spec.prompt_length;
    for (size_t i = 0; i < tokens.size(); ++i) {
      state->Emit(sequence->id,
                  SequenceEvent::Token{TokenOutput{.sample = trunk.sample + static_cast<int32_t>(i),
                                                   .index = index,
                                                   .token = tokens[i].token,
                                                   .logprob = tokens[i].logprob,
                                                   .top_logprobs = tokens[i].top_logprobs}});
    }
    state->Emit(sequence->id, SequenceEvent::PromptDone{.cached_tokens = sequence->cached_tokens});
    state->running.erase({sequence->id, 0});
    trunk.MoveTo(BranchPhase::kHeld);
    return;
  }
  trunk.MoveTo(BranchPhase::kDecode);
  Fork(state, sequence);
  StartSamples(state, sequence, tokens, /*emit_tokens=*/true);
}

void CommitRow(SchedulerState* state, const StepPlan::Row& row, Sequence* sequence,
               std::span<const SampledToken> tokens) {
  Branch& branch = sequence->At(row.branch);
  branch.computed_tokens += static_cast<int32_t>(row.tokens.size());
  if (row.first_logit_token < static_cast<int32_t>(row.tokens.size())) {
    sequence->prompt_logits_from = std::max(sequence->prompt_logits_from, branch.computed_tokens);
  }
  if (state->options.prefix_caching) {
    const auto computed = static_cast<size_t>(branch.computed_tokens);
    state->cache.Register(sequence->spec.cache_salt, std::span(branch.tokens).first(computed),
                          branch.blocks.ids(), &branch.indexed);
  }
  if (branch.abort_at_commit) {
    EndBranch(state, sequence, row.branch);
    return;
  }
  if (tokens.empty()) return;
  if (!sequence->forked) {
    CommitFirstTokens(state, sequence, tokens);
    return;
  }
  if (branch.phase == BranchPhase::kPrefill) branch.MoveTo(BranchPhase::kDecode);
  AppendToken(state, sequence, row.branch, tokens[0], /*emit_token=*/true);
}

}  // namespace

void ApplyStep(SchedulerState* state, std::span<const std::vector<SampledToken>> sampled) {
  BATON_CHECK(state->planned) << "Commit without Plan";
  const std::vector<StepPlan::Row>& rows = state->plan.rows;
  BATON_CHECK(sampled.size() == rows.size()) << sampled.size() << " of " << rows.size() << " rows";
  BATON_CHECK(!state->planned_ahead) << "Commit of a step that Plan has not given";
  state->copy_sources.clear();
  state->left_ahead.clear();

  state->events.reserve(state->events.size() + rows.size());
  std::vector<SequenceId> interrupted;
  for (size_t i = 0; i < rows.size(); ++i) {
    const StepPlan::Row& row = rows[i];
    BATON_CHECK(static_cast<int32_t>(sampled[i].size()) == row.num_samples)
        << "sequence " << row.sequence << ": " << sampled[i].size() << " tokens for "
        << row.num_samples << " samples";
    Sequence* sequence = state->SequenceOf(row);
    if (sequence == nullptr) continue;
    --sequence->At(row.branch).planned_rows;
    --sequence->planned_rows;
    if (sequence->abort_at_commit || sequence->fail_at_commit) {
      if (sequence->planned_rows == 0) interrupted.push_back(row.sequence);
      if (sequence->abort_at_commit) continue;
    }
    CommitRow(state, row, sequence, sampled[i]);
  }
  for (const SequenceId id : interrupted) {
    Sequence* sequence = state->Find(id);
    if (sequence == nullptr) continue;
    if (sequence->abort_at_commit) {
      EndAborted(state, sequence, sequence->keep_pinned && !sequence->release_at_commit);
    } else {
      FailExhausted(state, sequence);
    }
  }
  std::swap(state->plan, state->ahead);
  state->ahead.Clear();
  state->planned = state->planned_ahead = !state->plan.empty();
}

}  // namespace baton
